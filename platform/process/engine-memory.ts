/**
 * How large a machine a program of the platform is told to run on. The engine lets garbage pile up with the memory that there
 * is: on a large machine, projections that catch up hold half as much again as with this, and are 5 to 10 % faster.
 */

const MIB = 1024 * 1024;

/** Read by JavaScriptCore when a process starts, and by nothing that is told later. */
const VARIABLE = 'BUN_JSC_forceRAMSize';

const RAM_MIB: Readonly<Partial<Record<string, number>>> = {
  projections: 1_024,
  pinger: 384,
};

/** What the environment of a program needs for it; a size that is set there already stands. */
export function engineMemory(
  program: string,
  env: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  const mib = RAM_MIB[program];
  return mib === undefined || env[VARIABLE] !== undefined ? {} : { [VARIABLE]: String(mib * MIB) };
}

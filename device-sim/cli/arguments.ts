/** The arguments of `./run sim`. */

import { parseArgs } from 'node:util';
import type { Config } from '../../platform/config/config.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { SCENARIOS, type Scenario, scenarioNamed } from '../scenarios/scenarios.ts';

const SUMMARY_INDENT = `\n${' '.repeat(31)}`;

export const USAGE = `usage: ./run sim [--units N] [--lockers M] [--seed S] [--scenario NAME] [--duration T] [--json]
  --units, --lockers           the fleet (default: SIM_UNITS, SIM_LOCKERS)
  --seed                       its names and choices (default: SIM_SEED + 1, a fleet apart from that of ./run start)
  --scenario                   ${SCENARIOS.map(({ name, summary }) => `${name}: ${summary}`).join(SUMMARY_INDENT)}
  --duration                   a time such as 30s, 5m or 1h (default: 60s)
  --json                       prints the report as JSON on standard output
Exit status: 0 when the platform has recorded every event, 1 when it has not, 2 when the simulator cannot run.`;

const DEFAULT_SCENARIO = 'steady';
const DEFAULT_DURATION = '60s';
const MAX_DURATION_MS = 7 * 24 * 3_600_000;
const MAX_UNITS = 500_000;
const MAX_LOCKERS = 1_000;
const MAX_SEED = 2_147_483_647;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

export interface RunOptions {
  readonly units: number;
  readonly lockers: number;
  readonly seed: number;
  readonly scenario: Scenario;
  readonly durationMs: number;
  readonly json: boolean;
}

/** @returns a message for the user when the arguments cannot be used */
export function parseArguments(args: readonly string[], { sim }: Config): RunOptions | string {
  const option = { type: 'string' } as const;
  let values: { [option: string]: string | boolean | undefined };
  try {
    const options = { units: option, lockers: option, seed: option, scenario: option, duration: option };
    values = parseArgs({
      args: [...args],
      options: { ...options, json: { type: 'boolean' } },
      allowPositionals: false,
    }).values;
  } catch (error) {
    return errorMessage(error);
  }
  const units = parseInteger(values.units, sim.units, MAX_UNITS);
  const lockers = parseInteger(values.lockers, sim.lockers, MAX_LOCKERS);
  const seed = parseInteger(values.seed, seedBeside(sim.seed), MAX_SEED);
  if (units === undefined || units < 1) return `--units must be a whole number from 1 to ${MAX_UNITS}`;
  if (lockers === undefined || lockers < 1) return `--lockers must be a whole number from 1 to ${MAX_LOCKERS}`;
  if (seed === undefined) return `--seed must be a whole number from 0 to ${MAX_SEED}`;
  const name = String(values.scenario ?? DEFAULT_SCENARIO);
  const scenario = scenarioNamed(name);
  if (scenario === undefined) {
    return `--scenario must be one of ${SCENARIOS.map((known) => known.name).join(', ')}, not "${name}"`;
  }
  const durationMs = parseDuration(String(values.duration ?? DEFAULT_DURATION));
  if (durationMs === undefined) return '--duration must be a time such as 30s, 5m or 1h, one week at most';
  return { units, lockers, seed, scenario, durationMs, json: values.json === true };
}

/** `./run start` has the store and the unit names of SIM_SEED in use. */
function seedBeside(startSeed: number): number {
  return startSeed === MAX_SEED ? 0 : startSeed + 1;
}

function parseInteger(text: string | boolean | undefined, fallback: number, maximum: number): number | undefined {
  if (text === undefined) return fallback;
  const value = typeof text === 'string' && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return value <= maximum ? value : undefined;
}

function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const ms = Number(match?.[1]) * (UNIT_MS[match?.[2] ?? 's'] ?? Number.NaN);
  return ms > 0 && ms <= MAX_DURATION_MS ? ms : undefined;
}

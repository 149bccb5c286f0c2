/** The log of a process: on standard error, because standard output belongs to the results of a command. */

import { LOG_FORMATS, type LogFormat } from '../config/config.ts';
import { createLog, type Log, type LogFields } from './log.ts';
import { prettyLines } from './pretty-lines.ts';

export interface LogOutput {
  /** `LOG_FORMAT` is read from it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stderr: { readonly isTTY?: boolean; write(text: string): unknown };
}

/**
 * The log of a process, in the format of `LOG_FORMAT`.
 * @param output the process itself
 * @param clock milliseconds since 1970
 * @param fields carried by every line, such as the name of the process
 */
export function processLog({ env, stderr }: LogOutput, clock: () => number, fields?: LogFields): Log {
  const isTerminal = stderr.isTTY === true;
  if (logFormat(env.LOG_FORMAT, isTerminal) === 'json') return createLog((line) => stderr.write(line), clock, fields);
  const toPretty = prettyLines({ colour: isTerminal });
  return createLog((line) => stderr.write(`${toPretty(line.trimEnd())}\n`), clock, fields);
}

/** @returns the format of a setting `LOG_FORMAT`; without one, lines for people on a terminal and JSON elsewhere */
export function logFormat(setting: string | undefined, isTerminal: boolean): LogFormat {
  const format = LOG_FORMATS.find((known) => known === setting);
  return format ?? (isTerminal ? 'pretty' : 'json');
}

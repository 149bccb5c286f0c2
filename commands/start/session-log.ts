/** The log of `./run start`: the lines of all its processes, as JSON or for people. */

import type { LogFormat } from '../../platform/config/config.ts';
import { createLog } from '../../platform/observability/log.ts';
import { prettyLines } from '../../platform/observability/pretty-lines.ts';
import { type LineSink, prefixedLogs } from '../../platform/process/lines.ts';

export interface SessionLogOptions {
  readonly format: LogFormat;
  /** Whether lines for people have the colours of a terminal. */
  readonly colour: boolean;
  /** Names of processes are padded to this width. */
  readonly nameWidth: number;
  /** Receives a finished line, without its line end. */
  readonly write: LineSink;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/**
 * Makes the sink for the lines of each process. The programs of the platform write JSON; NATS and Postgres write lines of text, which
 * become the `message` of a JSON line where the format is `json`.
 */
export function sessionLog(options: SessionLogOptions): (process: string) => LineSink {
  return options.format === 'json' ? jsonLog(options) : prettyLog(options);
}

function prettyLog({ colour, nameWidth, write }: SessionLogOptions) {
  const format = prettyLines({ colour, showProcess: false });
  const sinkOf = prefixedLogs(write, colour, nameWidth);
  return (process: string): LineSink => {
    const sink = sinkOf(process);
    return (line) => {
      for (const part of format(line).split('\n')) sink(part);
    };
  };
}

function jsonLog({ write, clock }: SessionLogOptions) {
  return (process: string): LineSink => {
    const log = createLog((line) => write(line.trimEnd()), clock, { process });
    return (line) => (line.startsWith('{') ? write(line) : log.info(line));
  };
}

/** Structured log lines: one JSON object a line, written through pino. */

import { type Logger, pino } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A child log: its lines carry these fields too. */
  with(fields: LogFields): Log;
}

/**
 * A log whose lines have `level`, `time` (ISO 8601), the fields, and `message`.
 * @param write receives a finished line with its line end, in the same turn of the event loop
 * @param clock milliseconds since 1970
 * @param fields carried by every line
 */
export function createLog(write: (line: string) => void, clock: () => number, fields: LogFields = {}): Log {
  const options = {
    level: 'debug',
    base: fields,
    messageKey: 'message',
    timestamp: () => `,"time":"${new Date(clock()).toISOString()}"`,
    formatters: { level: (level: string) => ({ level }), log: toPlainFields },
  };
  // pino writes in this thread. The lines of a worker thread would be lost when the process ends.
  return fromPino(pino(options, { write }));
}

function fromPino(logger: Logger): Log {
  const writeAt =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}) =>
      logger[level](fields, message);
  return {
    debug: writeAt('debug'),
    info: writeAt('info'),
    warn: writeAt('warn'),
    error: writeAt('error'),
    with: (fields) => fromPino(logger.child(fields)),
  };
}

function toPlainFields(fields: LogFields): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, toPlain(value)]));
}

/** JSON has neither errors nor big integers: an error becomes its name, message and stack, a big integer its digits. */
function toPlain(value: unknown): unknown {
  if (value instanceof Error) return { name: value.name, message: value.message, stack: value.stack };
  if (Array.isArray(value)) return value.map(toPlain);
  return typeof value === 'bigint' ? value.toString() : value;
}

/** Log lines as JSON, one a line, on standard error. Standard output belongs to what a command answers. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines carry these fields too. */
  with(fields: LogFields): Log;
}

/** `write` takes a finished line, `clock` gives milliseconds since 1970. */
export function createLog(write: (line: string) => void, clock: () => number, fields: LogFields = {}): Log {
  const line = (level: LogLevel) => (message: string, more?: LogFields) => {
    const entry = { time: new Date(clock()).toISOString(), level, message, ...fields, ...more };
    write(`${JSON.stringify(entry, describeError)}\n`);
  };
  return {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    with: (more) => createLog(write, clock, { ...fields, ...more }),
  };
}

/** JSON knows no errors: their text and their stack are what a reader needs. */
function describeError(_key: string, value: unknown): unknown {
  if (value instanceof Error) return { name: value.name, message: value.message, stack: value.stack };
  return typeof value === 'bigint' ? value.toString() : value;
}

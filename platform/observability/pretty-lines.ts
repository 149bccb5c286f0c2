/** Log lines for people: the JSON lines of `log.ts`, formatted by pino-pretty for a terminal. */

import { prettyFactory } from 'pino-pretty';
import type { LogFields } from './log.ts';

export interface PrettyOptions {
  /** Whether the lines have the colours of a terminal. */
  readonly colour: boolean;
  /** Whether a line names its process. False where a prefix of the line names it already. @default true */
  readonly showProcess?: boolean;
}

interface LogLine {
  readonly level: string;
  readonly time: string;
  readonly message: string;
}

/** Fields that have their own place in a line. */
const PLACED_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'message', 'process']);
/** Levels whose message is coloured, so that a problem stands out among lines of `info`. */
const PROBLEM_COLOURS: Readonly<Record<string, 'yellow' | 'red'>> = { warn: 'yellow', error: 'red' };
const STACK_INDENT = '    ';

/**
 * Makes a formatter of log lines. A line becomes `12:30:45.123 server WARN: message field=value`, in local time. At level
 * `error` the stack of an error follows on lines of its own; at other levels an error is one field.
 * @returns a function from a line to its text, both without line end; a line that no log wrote stays as it is
 */
export function prettyLines({ colour, showProcess = true }: PrettyOptions): (line: string) => string {
  const pretty = prettyFactory({
    colorize: colour,
    messageKey: 'message',
    translateTime: 'SYS:HH:MM:ss.l',
    hideObject: true,
    customPrettifiers: {
      time: (time) => String(time).replace(/^\[|\]$/g, ''),
      level: (_level, _key, line, { labelColorized }) =>
        showProcess && 'process' in line ? `${line.process} ${labelColorized}` : labelColorized,
    },
    messageFormat: (line, _messageKey, _label, { colors }) => {
      const problem = PROBLEM_COLOURS[String(line.level)];
      const text = colors[problem ?? 'reset'](String(line.message));
      const { inline, stacks } = describeFields(line, line.level === 'error');
      return `${text}${inline === '' ? '' : ` ${colors.gray(inline)}`}${colors.gray(stacks)}`;
    },
  });
  return (line) => {
    const parsed = parseLogLine(line);
    return parsed === undefined ? line : (pretty(parsed) ?? line).trimEnd();
  };
}

function parseLogLine(line: string): LogLine | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return isLogLine(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isLogLine(value: unknown): value is LogLine {
  if (typeof value !== 'object' || value === null) return false;
  const { level, time, message } = value as Record<string, unknown>;
  return typeof level === 'string' && typeof time === 'string' && typeof message === 'string';
}

/** @returns the fields as `name=value` with a space between them, and the stacks with a line end before each line */
function describeFields(line: LogFields, withStacks: boolean): { readonly inline: string; readonly stacks: string } {
  const inline: string[] = [];
  let stacks = '';
  for (const [name, value] of Object.entries(line)) {
    if (PLACED_FIELDS.has(name)) continue;
    if (!isDescribedError(value)) inline.push(`${name}=${describeValue(value)}`);
    else if (withStacks && value.stack !== undefined) {
      stacks += value.stack
        .split('\n')
        .map((frame) => `\n${STACK_INDENT}${frame.trim()}`)
        .join('');
    } else inline.push(`${name}=${JSON.stringify(`${value.name}: ${value.message}`)}`);
  }
  return { inline: inline.join(' '), stacks };
}

/** A text of one word is written without quotes, every other value as JSON. */
function describeValue(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

function isDescribedError(
  value: unknown,
): value is { readonly name: string; readonly message: string; readonly stack?: string } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'name' in value &&
    'message' in value &&
    (!('stack' in value) || typeof value.stack === 'string')
  );
}

import { expect, test } from 'bun:test';
import { sessionLog } from '../../../commands/start/session-log.ts';

const AT_MS = Date.parse('2026-07-01T12:00:00.000Z');
const SERVER_LINE =
  '{"level":"warn","time":"2026-07-01T12:00:00.000Z","process":"server","unit":"PL-1","message":"It rains."}';

function lines(format: 'json' | 'pretty', ...written: readonly (readonly [process: string, line: string])[]): string[] {
  const out: string[] = [];
  const write = (line: string) => out.push(line);
  const logFor = sessionLog({ format, colour: false, nameWidth: 8, write, clock: () => AT_MS });
  for (const [process, line] of written) logFor(process)(line);
  return out;
}

test('every line is a JSON object in the format json, also those of services that write text', () => {
  const out = lines('json', ['server', SERVER_LINE], ['postgres', 'FATAL:  the disk is "full"']);
  expect(out[0]).toBe(SERVER_LINE);
  expect(JSON.parse(out[1] ?? '')).toEqual({
    level: 'info',
    time: '2026-07-01T12:00:00.000Z',
    process: 'postgres',
    message: 'FATAL:  the disk is "full"',
  });
});

test('a line for people names the process, the level, the message and the fields, once', () => {
  const [line = '', text] = lines('pretty', ['server', SERVER_LINE], ['postgres', 'FATAL:  no disk']);
  expect(line).toMatch(/^server {3}│ \d\d:\d\d:\d\d\.\d{3} WARN: It rains\. unit=PL-1$/);
  expect(text).toBe('postgres │ FATAL:  no disk');
});

test('each line of a stack is prefixed', () => {
  const error = { name: 'Error', message: 'no', stack: 'Error: no\n    at one\n    at two' };
  const written = JSON.stringify({ level: 'error', time: '2026-07-01T12:00:00.000Z', error, message: 'It failed.' });
  const out = lines('pretty', ['server', written]);
  expect(out).toHaveLength(4);
  expect(out.every((line) => line.startsWith('server   │ '))).toBe(true);
});

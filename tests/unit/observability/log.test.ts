import { expect, test } from 'bun:test';
import { createLog } from '../../../platform/observability/log.ts';
import { prettyLines } from '../../../platform/observability/pretty-lines.ts';
import { type LogOutput, processLog } from '../../../platform/observability/process-log.ts';

const NOON_MS = Date.UTC(2026, 0, 2, 12, 0, 0, 345);
const clock = () => NOON_MS;
/** Lines for people show the local time. */
const LOCAL_TIME = new Date(NOON_MS).toTimeString().slice(0, 8);

function written(write: (log: ReturnType<typeof createLog>) => void): string {
  const lines: string[] = [];
  write(createLog((line) => lines.push(line), clock, { process: 'server' }));
  expect(lines).toHaveLength(1);
  return lines[0] ?? '';
}

/** What a process writes on its standard error. */
function outputOf(env: LogOutput['env'], isTTY: boolean): string {
  let text = '';
  const stderr = { isTTY, write: (part: string) => (text += part) };
  processLog({ env, stderr }, clock, { process: 'pinger' }).warn('Unit PL-1 did not answer', { afterMs: 4_000 });
  return text;
}

test('a line is one JSON object with level, time, fields and message', () => {
  const line = written((log) => log.with({ unit: 'PL-1' }).info('Registered a unit.', { lockers: 8, seq: 12n }));
  expect(line.endsWith('}\n')).toBe(true);
  expect(JSON.parse(line)).toEqual({
    level: 'info',
    time: '2026-01-02T12:00:00.345Z',
    process: 'server',
    unit: 'PL-1',
    lockers: 8,
    seq: '12',
    message: 'Registered a unit.',
  });
});

test('each method writes its own level', () => {
  for (const level of ['debug', 'info', 'warn', 'error'] as const) {
    expect(JSON.parse(written((log) => log[level]('100 %s')))).toMatchObject({ level, message: '100 %s' });
  }
});

test('an error is written with its name, message and stack, also in a list', () => {
  const error = new RangeError('too long');
  const { errors, ...line } = JSON.parse(written((log) => log.error('The server ends.', { error, errors: [error] })));
  expect(line.error).toEqual({ name: 'RangeError', message: 'too long', stack: expect.stringContaining('log.test') });
  expect(errors).toEqual([line.error]);
});

test('a line with a circular value is written', () => {
  const loop: Record<string, unknown> = { name: 'loop' };
  loop.self = loop;
  expect(JSON.parse(written((log) => log.info('A loop', { loop })))).toMatchObject({ loop: { name: 'loop' } });
});

test('for people, a line has time, process, level, message and fields', () => {
  const line = written((log) => log.warn('Shards were dealt.', { owned: 256, group: 'ingest', why: 'a b' }));
  expect(prettyLines({ colour: false })(line)).toBe(
    `${LOCAL_TIME}.345 server WARN: Shards were dealt. owned=256 group=ingest why="a b"`,
  );
  expect(prettyLines({ colour: false, showProcess: false })(line)).toBe(
    `${LOCAL_TIME}.345 WARN: Shards were dealt. owned=256 group=ingest why="a b"`,
  );
});

test('for people, an error is one field of a warning, and has its stack at level error', () => {
  const error = new TypeError('no connection');
  const warning = written((log) => log.warn('Retrying.', { error }));
  expect(prettyLines({ colour: false })(warning)).toBe(
    `${LOCAL_TIME}.345 server WARN: Retrying. error="TypeError: no connection"`,
  );
  const failure = prettyLines({ colour: false })(written((log) => log.error('The server ends.', { error, port: 1 })));
  const [first, second, third] = failure.split('\n');
  expect(first).toBe(`${LOCAL_TIME}.345 server ERROR: The server ends. port=1`);
  expect(second).toBe('    TypeError: no connection');
  expect(third).toStartWith('    at ');
});

test('on a terminal, problems have a colour that other lines have not', () => {
  const toPretty = prettyLines({ colour: true });
  expect(toPretty(written((log) => log.error('broken')))).toContain('\x1b[31mbroken');
  expect(toPretty(written((log) => log.warn('strained')))).toContain('\x1b[33mstrained');
  expect(toPretty(written((log) => log.info('fine')))).not.toContain('\x1b[33m');
});

test.each(['[84] 2026/01/02 [INF] Server is ready', '{"a":1}', '{broken', '', '[1]', 'null'])(
  'the line %p, which is not a log entry, is printed unchanged',
  (line) => {
    expect(prettyLines({ colour: true })(line)).toBe(line);
  },
);

test('a process writes lines for people on a terminal and JSON elsewhere, unless LOG_FORMAT names a format', () => {
  expect(JSON.parse(outputOf({}, false))).toMatchObject({ process: 'pinger', afterMs: 4_000 });
  expect(JSON.parse(outputOf({ LOG_FORMAT: 'json' }, true))).toMatchObject({ process: 'pinger' });
  const plain = `${LOCAL_TIME}.345 pinger WARN: Unit PL-1 did not answer afterMs=4000\n`;
  expect(outputOf({ LOG_FORMAT: 'pretty' }, false)).toBe(plain);
  expect(Bun.stripANSI(outputOf({}, true))).toBe(plain);
  expect(outputOf({}, true)).not.toBe(plain);
});

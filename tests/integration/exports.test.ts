/** Exports over real connections: backpressure, the end of an answer, errors, and clients that disconnect. */

import { afterAll, describe, expect, test } from 'bun:test';
import { connect, type Socket } from 'node:net';
import { ExportStreams, MAX_EXPORTS } from '../../server/http/export-streams.ts';
import { problemOf, problemResponse } from '../../server/http/problems.ts';
import { eventually } from '../support/eventually.ts';
import { silentLog } from '../support/silent-log.ts';

const PIECE = 'x'.repeat(64 * 1024);
/** The most that the sockets of both sides may buffer while the client reads nothing. */
const MAX_BUFFERED_PIECES = 200;

type Pieces = () => AsyncGenerator<string>;

let pieces: Pieces;
let running = 0;
const exports = new ExportStreams(silentLog);
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch: (request, connection) => {
    try {
      return exports.respond(
        { contentType: 'text/csv', fileName: 'a.csv', pieces: watched(pieces) },
        request,
        connection,
      );
    } catch (error) {
      const problem = problemOf(error);
      if (problem === undefined) throw error;
      return problemResponse(problem);
    }
  },
});
const port = server.port ?? 0;

afterAll(() => server.stop(true));

async function* watched(source: Pieces): AsyncGenerator<string> {
  running += 1;
  try {
    yield* source();
  } finally {
    running -= 1;
  }
}

async function* endless(): AsyncGenerator<string> {
  for (;;) yield PIECE;
}

/** Starts an export and reads up to its first piece. */
async function startExport(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n');
  await new Promise((resolve) => socket.once('data', resolve));
  socket.pause();
  return socket;
}

function fetchExport(): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}/`, { keepalive: false });
}

describe('an export', () => {
  test('that succeeds sends all pieces, without the empty ones', async () => {
    pieces = async function* () {
      yield* ['a,b\r\n', '', '', '1,2\r\n', ''];
    };
    const response = await fetchExport();
    expect(response.headers.get('content-disposition')).toBe('attachment; filename="a.csv"');
    expect(await response.text()).toBe('a,b\r\n1,2\r\n');
    expect(running).toBe(0);
  });

  test('that fails is cut off without its last chunk', async () => {
    pieces = async function* () {
      yield 'a,b\r\n';
      throw new Error('the database is gone');
    };
    await expect(fetchExport().then((response) => response.text())).rejects.toThrow();
    const raw = connect(port, '127.0.0.1');
    let text = '';
    raw.on('data', (chunk) => {
      text += chunk.toString();
    });
    const closed = new Promise((resolve) => raw.once('close', resolve));
    raw.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n');
    await closed;
    expect(text).toContain('a,b\r\n');
    // A complete answer ends with a chunk of length 0.
    expect(text).not.toContain('\r\n0\r\n');
    expect(running).toBe(0);
  });

  test('produces pieces only as fast as the client reads them', async () => {
    let made = 0;
    pieces = async function* () {
      for await (const piece of endless()) {
        made += 1;
        yield piece;
      }
    };
    const socket = await startExport();
    let before = -1;
    await eventually(
      () => {
        const isPaused = made === before;
        before = made;
        return isPaused;
      },
      { intervalMs: 200 },
    );
    expect(made).toBeLessThan(MAX_BUFFERED_PIECES);
    socket.destroy();
    await eventually(() => running === 0);
  });

  test('ends when its client disconnects, also while it searches and has nothing to send', async () => {
    pieces = async function* () {
      yield PIECE;
      for (;;) {
        await Bun.sleep(1);
        yield '';
      }
    };
    const socket = await startExport();
    expect(running).toBe(1);
    socket.destroy();
    await eventually(() => running === 0);
  });

  test('is refused with 503 while the maximum number of exports runs, and accepted when one has ended', async () => {
    pieces = endless;
    const sockets = await Promise.all(Array.from({ length: MAX_EXPORTS }, startExport));
    const refused = await fetchExport();
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    sockets.pop()?.destroy();
    await eventually(() => running === MAX_EXPORTS - 1);
    sockets.push(await startExport());
    for (const socket of sockets) socket.destroy();
    await eventually(() => running === 0);
  });
});

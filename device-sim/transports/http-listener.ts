/**
 * The HTTP side of a unit. Every unit listens on an address of its own, so that the address alone says who is meant and
 * nothing outside this machine is listened to: one socket on 0.0.0.0 would answer the network too. 5,000 listeners take
 * half a second and 100 MB.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/clock.ts';
import type { Random } from '../environment/random.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import { errorResponse, type UnitRequestHandler, type UnitResponse } from './request-handler.ts';

/** A signed command may carry a megabyte of configuration. */
const MAX_BODY_BYTES = 1_048_576 + 1_024;
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the interval of pings: a pinger may keep its connection. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;

export interface HttpListenerDependencies {
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** A unit's address cannot be listened on. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly code: string | undefined;

  constructor(address: string, cause: unknown) {
    super(`cannot listen on ${address}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  }
}

/** Listens for one unit. @throws ListenError */
export async function listenForHttp(
  unit: EmulatedUnit,
  answers: UnitRequestHandler,
  deps: HttpListenerDependencies,
): Promise<{ close(): void }> {
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS });
  server.on('request', (request, response) => {
    serve(unit, answers, deps, request, response).catch((error: unknown) => {
      deps.log.error('a request could not be answered', { unit: unit.name, error });
      hangUp(request);
    });
  });
  await listen(server, unit.address);
  return {
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function listen(server: Server, address: string): Promise<void> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new ListenError(address, error)));
    server.listen({ host, port: Number(port) }, resolve);
  });
}

async function serve(
  unit: EmulatedUnit,
  answers: UnitRequestHandler,
  { timers, random }: HttpListenerDependencies,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const waitMs = networkDelayMs(unit.faults, random);
  if (unit.faults.offline || isMessageLost(unit.faults, random)) return hangUp(request);
  await timers.pause(waitMs / 2);
  const answer = await answerTo(answers, request);
  await timers.pause(waitMs / 2);
  // The unit has acted; that its answer gets lost is what makes a repeated command necessary.
  if (answer === undefined || unit.faults.offline || isMessageLost(unit.faults, random)) return hangUp(request);
  const headers = answer.body === '' ? {} : { 'content-type': 'application/json' };
  response.writeHead(answer.status, { ...headers, 'content-length': Buffer.byteLength(answer.body) });
  response.end(answer.body);
}

/** The connection closes without an answer, as one does when the network goes. */
function hangUp(request: IncomingMessage): void {
  request.socket.destroy();
}

/** `undefined` when the request broke off. */
async function answerTo(answers: UnitRequestHandler, request: IncomingMessage): Promise<UnitResponse | undefined> {
  const url = URL.parse(request.url ?? '/', 'http://unit');
  const route = `${request.method} ${url?.pathname}`;
  if (url === null) return errorResponse(404, 'unknown-path');
  switch (route) {
    case 'GET /ping':
      return answers.handlePing(url.searchParams);
    case 'GET /events':
      return answers.handleFetch(url.searchParams, request.headers.authorization);
    case 'POST /commands': {
      const body = await readBody(request);
      if (body === 'broken') return undefined;
      return body === 'too-large' ? errorResponse(413, 'too-large') : answers.handleCommand(body);
    }
    default:
      return errorResponse(404, 'unknown-path');
  }
}

async function readBody(request: IncomingMessage): Promise<Uint8Array | 'too-large' | 'broken'> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request) {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) return 'too-large';
      chunks.push(chunk);
    }
  } catch {
    return 'broken';
  }
  return Buffer.concat(chunks);
}

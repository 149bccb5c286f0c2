/**
 * Serves the HTTP requests of a unit. Each unit has a listener at an address of its own, which identifies the unit. One socket on
 * 0.0.0.0 for all units would be open to the network. 5,000 listeners open in half a second and take 100 MB.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Random } from '../environment/random.ts';
import type { Timers } from '../environment/timers.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import { ListenError } from './listen-error.ts';
import { errorResponse, type UnitRequestHandler, type UnitResponse } from './request-handler.ts';

/** The JWS of a command has 1 MiB at most; the rest is room for the JSON around it. */
const MAX_BODY_BYTES = 1_048_576 + 1_024;
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the interval of pings, so that a pinger can reuse its connection. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;

export interface HttpListenerDependencies {
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** Opens the listener of one unit at its address. @throws ListenError */
export async function listenForHttp(
  unit: EmulatedUnit,
  requests: UnitRequestHandler,
  deps: HttpListenerDependencies,
): Promise<{ close(): void }> {
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS });
  server.on('request', (request, response) => {
    serve(unit, requests, deps, request, response).catch((error: unknown) => {
      deps.log.error('A simulated unit failed to answer an HTTP request. The connection is closed.', {
        unit: unit.name,
        error,
      });
      closeConnection(request);
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
  requests: UnitRequestHandler,
  { timers, random }: HttpListenerDependencies,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const waitMs = networkDelayMs(unit.faults, random);
  if (unit.isOffline || isMessageLost(unit.faults, random)) return closeConnection(request);
  await timers.pause(waitMs / 2);
  const answer = await dispatch(requests, request);
  await timers.pause(waitMs / 2);
  // When the answer is lost, the unit has executed the request. The platform repeats a command with the same commandId.
  if (answer === undefined || unit.isOffline || isMessageLost(unit.faults, random)) {
    return closeConnection(request);
  }
  const headers = answer.body === '' ? {} : { 'content-type': 'application/json' };
  response.writeHead(answer.status, { ...headers, 'content-length': Buffer.byteLength(answer.body) });
  response.end(answer.body);
}

/** Closes the connection without an answer, as an interrupted network does. */
function closeConnection(request: IncomingMessage): void {
  request.socket.destroy();
}

/** @returns undefined when the request broke off, or the unit crashed */
async function dispatch(requests: UnitRequestHandler, request: IncomingMessage): Promise<UnitResponse | undefined> {
  const url = URL.parse(request.url ?? '/', 'http://unit');
  const route = `${request.method} ${url?.pathname}`;
  if (url === null) return errorResponse(404, 'unknown-path');
  switch (route) {
    case 'GET /ping':
      return requests.handlePing(url.searchParams);
    case 'GET /events':
      return requests.handleFetch(url.searchParams, request.headers.authorization);
    case 'POST /commands': {
      const body = await readBody(request);
      if (body === 'broken-off') return undefined;
      return body === 'too-large' ? errorResponse(413, 'too-large') : requests.handleCommand(body);
    }
    default:
      return errorResponse(404, 'unknown-path');
  }
}

async function readBody(request: IncomingMessage): Promise<Uint8Array | 'too-large' | 'broken-off'> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request) {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) return 'too-large';
      chunks.push(chunk);
    }
  } catch {
    return 'broken-off';
  }
  return Buffer.concat(chunks);
}

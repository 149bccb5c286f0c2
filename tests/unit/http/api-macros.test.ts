/** What the routes declare happens in every capability: authentication before validation, and reads that wait for a position. */

import { beforeEach, describe, expect, test } from 'bun:test';
import { laneOf } from '../../../domain/shard.ts';
import { TokenError } from '../../../platform/auth/tokens.ts';
import { apiWithoutServices } from '../../support/api.ts';

interface WaitQuery {
  readonly projections: readonly string[];
  readonly lanes: 'all' | readonly string[];
  readonly position: number;
}

const waits: WaitQuery[] = [];
const app = apiWithoutServices({
  newId: () => 'a-random-id',
  tokens: {
    verify: async (token: string) => {
      if (token !== 'customer' && token !== 'ops') throw new TokenError('The token is unknown.');
      return { sub: 'me', role: token };
    },
  },
  positions: {
    waitUntilPassed: async (query: WaitQuery) => {
      waits.push(query);
      return false;
    },
  },
  postgres: { sql: async () => [{ id: 'a-random-id' }] },
} as never);

beforeEach(() => {
  waits.length = 0;
});

async function send(method: string, path: string, token?: string, body?: unknown) {
  const response = await app.handle(
    new Request(`http://localhost${path}`, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  );
  return { status: response.status, body: await response.json() };
}

const ROUTES = [
  ['POST', '/v1/reservations', 'customer'],
  ['GET', '/v1/availability', 'customer'],
  ['POST', '/v1/units', 'ops'],
  ['GET', '/v1/units?limit=0', 'ops'],
  ['POST', '/v1/api-keys', 'ops'],
  ['DELETE', '/v1/api-keys/no-id', 'ops'],
  ['GET', '/v1/units/PL-1/state?at=yesterday', 'ops'],
  ['GET', '/v1/events?limit=0', 'ops'],
] as const;

describe.each(ROUTES)('%s %s', (method, path, role) => {
  const body = method === 'POST' ? { unknown: true } : undefined;

  test('is 401 without a token, for any request, and 403 for the other role', async () => {
    expect(await send(method, path, undefined, body)).toMatchObject({
      status: 401,
      body: { type: '/problems/unauthenticated' },
    });
    expect(await send(method, path, 'forged', body)).toMatchObject({ status: 401 });
    expect(await send(method, path, role === 'ops' ? 'customer' : 'ops', body)).toMatchObject({
      status: 403,
      body: { type: '/problems/forbidden', detail: expect.stringContaining(`the role ${role}`) },
    });
  });

  test('is 422 for its role, because the request is not valid', async () => {
    expect(await send(method, path, role, body)).toMatchObject({ status: 422, body: { type: '/problems/validation' } });
    expect(waits).toEqual([]);
  });
});

const ID = 'PL-1000.0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55';
const period = 'from=2126-07-01T10:00:00Z&until=2126-07-01T12:00:00Z';

test.each([
  ['/v1/units', 'ops', 'units', 'all'],
  ['/v1/units/PL-1000', 'ops', 'units', [laneOf('PL-1000')]],
  ['/v1/units/PL-1000/state?at=2026-07-01T10:00:00Z', 'ops', 'event_log', [laneOf('PL-1000')]],
  ['/v1/reservations', 'customer', 'reservations', 'all'],
  [`/v1/reservations/${ID}`, 'customer', 'reservations', [laneOf('PL-1000')]],
  [`/v1/availability?unit=PL-1000&${period}`, 'customer', 'reservations', [laneOf('PL-1000')]],
  [`/v1/availability?near=54.3,18.6&${period}`, 'customer', 'reservations', 'all'],
] as const)('GET %s as %s waits for %s in the lanes %p', async (path, role, readModel, lanes) => {
  const query = `${path.includes('?') ? '&' : '?'}minPosition=12.3`;
  expect(await send('GET', `${path}${query}`, role)).toMatchObject({
    status: 503,
    body: {
      type: '/problems/unavailable',
      detail: expect.stringContaining(`${readModel} has not reached position 12.3`),
    },
  });
  expect(waits).toEqual([expect.objectContaining({ projections: [readModel], lanes, position: 12 })]);
});

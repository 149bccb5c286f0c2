/** Requests that are not valid are refused with a problem document, and nothing is recorded. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { signToken } from '../../platform/auth/tokens.ts';
import { Client, fields, period } from '../support/client.ts';
import type { Platform } from '../support/platform.ts';
import { fleet, newCustomer, operator, stopFleet } from './fleet.ts';

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

describe('an invalid reservation request', () => {
  const valid = { unit: 'PL-1000', size: 'M', ...period(10_000, 60) };
  const cases: [string, unknown, number, string][] = [
    ['an unknown field', { ...valid, colour: 'red' }, 422, '/colour'],
    ['a wrong type', { ...valid, size: 7 }, 422, '/size'],
    ['an unknown size', { ...valid, size: 'XXL' }, 422, '/size'],
    ['a missing field', { size: 'M', ...period(10_000, 60) }, 422, '/unit'],
    ['a period that ends before it starts', { ...valid, until: valid.from }, 422, '/until'],
    ['a period in the past', { ...valid, ...period(-120, 60) }, 422, '/from'],
    ['a period that is too short', { ...valid, ...period(10_000, 1) }, 422, '/until'],
    ['an invalid time', { ...valid, from: 'tomorrow' }, 422, '/from'],
    ['an unknown locker', { unit: 'PL-1000', locker: 'ZZ', ...period(10_000, 60) }, 422, '/locker'],
    ['size and locker at once', { ...valid, locker: 'A' }, 422, '/locker'],
    ['neither size nor locker', { unit: 'PL-1000', ...period(10_000, 60) }, 422, '/size'],
  ];

  test.each(cases)('with %s is refused with its field, and records no event', async (_name, body, status, field) => {
    const before = (await ops.get('/v1/events?limit=1&type=ReservationHeld&count=true')).body.total;
    const answer = await (await newCustomer()).post('/v1/reservations', body);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.body.type).toBe('/problems/validation');
    expect(fields(answer)).toContain(field);
    expect((await ops.get('/v1/events?limit=1&type=ReservationHeld&count=true')).body.total).toBe(before);
  });

  test('for an unknown unit answers 404', async () => {
    const answer = await (await newCustomer()).post('/v1/reservations', { ...valid, unit: 'NO-SUCH' });
    expect(answer).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
  });

  test('with an oversized body, invalid UTF-8, broken JSON or another content type is refused', async () => {
    const client = await newCustomer();
    const send = (body: string | Uint8Array, contentType = 'application/json') =>
      client.send('POST', '/v1/reservations', { raw: { body, contentType } });
    expect(await send(`"${'x'.repeat(300_000)}"`)).toMatchObject({
      status: 413,
      body: { type: '/problems/validation' },
    });
    expect(await send(new Uint8Array([123, 34, 0xff, 0xfe, 34, 125]))).toMatchObject({ status: 400 });
    expect(await send('{"unit":')).toMatchObject({ status: 400, body: { type: '/problems/validation' } });
    expect(await send(JSON.stringify(valid), 'text/plain')).toMatchObject({ status: 415 });
  });

  test('with a missing, unsigned, foreign or expired token answers 401, and with the wrong role 403', async () => {
    const secret = 'a secret that is not the platform’s own one at all';
    const foreign = await signToken({ secret, sub: 'eve', role: 'customer', ttlS: 60, nowMs: Date.now() });
    const expired = await platform.expiredToken('customer', 'eve');
    const unsigned = `${btoa('{"alg":"none"}')}.${btoa('{"sub":"eve","role":"ops","exp":9999999999}')}.`;
    for (const token of [
      undefined,
      'Bearer',
      'Basic abc',
      `Bearer ${foreign}`,
      expired,
      `Bearer ${unsigned}`,
      'Bearer x.y.z',
    ]) {
      const answer = await new Client(platform.api, token).post('/v1/reservations', valid);
      expect(answer).toMatchObject({ status: 401, body: { type: '/problems/unauthenticated' } });
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
    expect(await (await newCustomer()).get('/v1/events')).toMatchObject({
      status: 403,
      body: { type: '/problems/forbidden' },
    });
    expect(await ops.post('/v1/reservations', {})).toMatchObject({ status: 403 });
  });

  test('for a list with an invalid cursor, limit or filter is refused with the parameter, and an unknown route or unit answers 404', async () => {
    expect(fields(await ops.get('/v1/events?cursor=nonsense'))).toEqual(['/query/cursor']);
    expect(fields(await ops.get('/v1/units?limit=100000'))).toEqual(['/query/limit']);
    expect(fields(await ops.get('/v1/units?colour=red'))).toEqual(['/query/colour']);
    expect(await ops.get('/v1/nothing')).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
    expect(await ops.get('/v1/units/NO-SUCH')).toMatchObject({ status: 404 });
  });

  test('for a position that is not reached yet answers 503 with Retry-After', async () => {
    const answer = await ops.get('/v1/events?minPosition=999999999');
    expect(answer).toMatchObject({ status: 503, body: { type: '/problems/unavailable' } });
    expect(answer.headers.get('retry-after')).not.toBeNull();
  });
});

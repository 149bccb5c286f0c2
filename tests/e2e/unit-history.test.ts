/** The state of a unit at other times over REST: the actual state, the believed state and the forecast. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Answer, Client, fields, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { fleet, freeAt, newCustomer, operator, stopFleet } from './fleet.ts';

const UNIT = 'PL-1003';
const WAIT = { timeoutMs: 60_000 };
const DAY_MS = 86_400_000;

interface ShownLocker {
  readonly id: string;
  readonly rental: { readonly rentalId: string; readonly course?: string; readonly endsAt?: string } | null;
}

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

function stateAt(query: Readonly<Record<string, string>>, unit = UNIT): Promise<Answer> {
  return ops.get(`/v1/units/${unit}/state?${new URLSearchParams(query)}`);
}

function sim(path: string, body?: unknown): Promise<Answer> {
  return new Client(platform.sim).post(path, body);
}

function rentals(answer: Answer): ShownLocker['rental'][] {
  return (answer.body.lockers as ShownLocker[]).map(({ rental }) => rental).filter((rental) => rental !== null);
}

function later(ms: number): string {
  return new Date(Date.now() + ms).toISOString();
}

test('a rental during a blackout is in the actual state of that time, and not in the believed state', async () => {
  await sim(`/units/${UNIT}/faults`, { offline: true });
  await eventually(async () => (await ops.get(`/v1/units/${UNIT}`)).body.state === 'offline', WAIT);
  const before = rentals(await stateAt({ at: later(0) })).length;
  expect((await sim(`/units/${UNIT}/walk-up`, { minutes: 60 })).status).toBeLessThan(300);
  const at = later(0);
  await eventually(async () => Date.now() > Date.parse(at));
  expect(rentals(await stateAt({ at }))).toHaveLength(before);

  await sim(`/units/${UNIT}/faults`, { offline: false });
  const actual = await eventually(async () => {
    const state = await stateAt({ at });
    return rentals(state).length > before && state;
  }, WAIT);
  const believed = await stateAt({ at, view: 'believed' });
  expect(rentals(actual)).toHaveLength(before + 1);
  expect(rentals(believed)).toHaveLength(before);
  expect(actual.body).toMatchObject({ view: 'actual', at, forecast: false, connectivity: { status: 'offline' } });
  expect(believed.body).toMatchObject({ view: 'believed', at, forecast: false, connectivity: { status: 'offline' } });
  // The believed state equals the state at its position. The events that came late have later positions.
  const position = text(believed, 'position');
  expect((await stateAt({ atPosition: position })).body).toMatchObject({ position, lockers: believed.body.lockers });
  expect(Number(text(actual, 'position'))).toBeGreaterThan(Number(position));
});

test('a forecast shows how holds, reservations and rentals will have changed', async () => {
  const alice = await newCustomer();
  const when = period(60, 60);
  const [free] = await freeAt(alice, UNIT, when);
  const reserved = await alice.post('/v1/reservations', { unit: UNIT, locker: free?.locker, ...when });
  const [id, minPosition] = [text(reserved, 'id'), reserved.headers.get('lockfleet-position') ?? ''];
  const courseAt = async (at: string) => {
    const query = new URLSearchParams({ at, minPosition });
    const { body } = await ops.getOnceShown(`/v1/units/${UNIT}/state?${query}`);
    expect(body).toMatchObject({ at, forecast: true, view: 'actual' });
    const { status, course } = (body.reservations as Record<string, unknown>[]).find((one) => one.id === id) ?? {};
    return [status, course];
  };
  expect(await courseAt(later(60_000))).toEqual(['held', 'ahead']);
  expect(await courseAt(when.from)).toEqual(['expired', 'over']);
  const confirmed = await alice.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_1' });
  expect(confirmed.status).toBe(200);
  expect(await courseAt(when.from)).toEqual(['confirmed', 'running']);
  expect(await courseAt(when.until)).toEqual(['confirmed', 'over']);
  expect(await courseAt(later(3 * DAY_MS))).toEqual(['expired', 'over']);
  for (const rental of rentals(await stateAt({ at: later(3 * DAY_MS) }))) expect(rental?.course).toBe('over');
});

describe('an invalid query', () => {
  const cases: [string, Record<string, string>, string][] = [
    ['neither time nor position', {}, '/query/at'],
    ['both time and position', { at: later(-1_000), atPosition: '1' }, '/query/atPosition'],
    ['an invalid time', { at: 'yesterday' }, '/query/at'],
    ['a date that does not exist', { at: '2026-02-30T00:00:00Z' }, '/query/at'],
    ['a negative position', { atPosition: '-1' }, '/query/atPosition'],
    ['a position beyond the end', { atPosition: '999999999' }, '/query/atPosition'],
    ['an unknown view', { at: later(-1_000), view: 'unknown' }, '/query/view'],
    ['the actual view at a position', { atPosition: '1', view: 'actual' }, '/query/view'],
    ['the believed view of the future', { at: later(DAY_MS), view: 'believed' }, '/query/view'],
    ['a time more than a year ahead', { at: later(366 * DAY_MS) }, '/query/at'],
    ['an unknown parameter', { at: later(-1_000), when: 'now' }, '/query/when'],
  ];

  test.each(cases)('with %s answers 422 with the parameter', async (_name, query, field) => {
    const answer = await stateAt(query);
    expect(answer).toMatchObject({ status: 422, body: { type: '/problems/validation' } });
    expect(fields(answer)).toEqual([field]);
  });

  test('for an unknown unit, or for a time before its registration, answers 404', async () => {
    for (const at of [later(-1_000), later(DAY_MS)]) {
      const unknown = await stateAt({ at }, 'NO-SUCH');
      expect(unknown).toMatchObject({ status: 404, body: { detail: 'There is no unit NO-SUCH.' } });
    }
    const times: Record<string, string>[] = [{ at: '2001-01-01T00:00:00Z' }, { atPosition: '0' }];
    for (const query of times) {
      const early = await stateAt(query);
      expect(early).toMatchObject({ status: 404, body: { detail: expect.stringContaining('not registered yet') } });
    }
  });

  test('for a position that is not reached answers 503, of a customer 403, and without a token 401', async () => {
    expect(await stateAt({ at: later(-1_000), minPosition: '999999999' })).toMatchObject({ status: 503 });
    const customer = await newCustomer();
    expect(await customer.get(`/v1/units/${UNIT}/state?atPosition=1`)).toMatchObject({ status: 403 });
    expect(await new Client(platform.api).get(`/v1/units/${UNIT}/state?atPosition=1`)).toMatchObject({ status: 401 });
  });
});

/** A unit executes a command and its answer is lost on the way: the door opens once, and a repeated request is answered right. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { Client, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { fleet, freeAt, newCustomer, operator, stopFleet } from './fleet.ts';

const UNIT = 'PL-1000';
/** More answers than the test causes: pages of the list of reservations are commands as well. */
const EVERY_ANSWER = 1_000;

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

async function loseAnswers(loseNextAnswers: number): Promise<void> {
  expect((await new Client(platform.sim).post(`/units/${UNIT}/faults`, { loseNextAnswers })).status).toBe(200);
}

async function doorOf(locker: string): Promise<string | undefined> {
  const { body } = await new Client(platform.sim).get(`/units/${UNIT}`);
  return (body.lockers as { id: string; door: string }[]).find(({ id }) => id === locker)?.door;
}

async function eventsOf(locker: string, type: string): Promise<number> {
  const events = items(await ops.get(`/v1/events?unit=${UNIT}&type=${type}&limit=200`));
  return events.filter(({ subject }) => subject === `${UNIT}/${locker}`).length;
}

function closeDoor(locker: string) {
  return new Client(platform.sim).post(`/units/${UNIT}/lockers/${locker}/close`);
}

test('a repeated open with the same Idempotency-Key answers "opened", and the door has opened once', async () => {
  const customer = await newCustomer();
  const when = period(0, 60);
  const [free] = await freeAt(customer, UNIT, when);
  if (free === undefined) throw new Error(`no locker is free at ${UNIT}`);
  const { locker } = free;
  const held = await customer.post('/v1/reservations', { unit: UNIT, locker, ...when });
  expect(held.status).toBe(201);
  const id = text(held, 'id');
  expect((await customer.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_lost' })).status).toBe(200);

  await loseAnswers(EVERY_ANSWER);
  const key = { 'idempotency-key': 'open-lost-answer' };
  const open = () => customer.post(`/v1/reservations/${id}/open`, undefined, key);
  expect(await open()).toMatchObject({ status: 503, body: { type: '/problems/unit-offline' } });
  expect(await doorOf(locker)).toBe('open');
  // By now, the platform may have recorded that the unit has opened the door.
  expect([200, 503]).toContain((await open()).status);
  await loseAnswers(0);

  expect(await open()).toMatchObject({ status: 200, body: { result: 'opened', locker } });
  expect(await doorOf(locker)).toBe('open');

  // The first answer with success is kept for the key: a repeat after the door was closed opens nothing.
  expect((await closeDoor(locker)).status).toBe(200);
  expect(await open()).toMatchObject({ status: 200, body: { result: 'opened', locker } });
  expect(await doorOf(locker)).toBe('closed');

  const anew = await customer.post(`/v1/reservations/${id}/open`, undefined, { 'idempotency-key': 'open-anew' });
  expect(anew).toMatchObject({ status: 200, body: { result: 'opened', locker } });
  expect(await doorOf(locker)).toBe('open');

  // A unit's events are shown in the order of its log: with the second closing, both openings are shown, and there is no third.
  expect((await closeDoor(locker)).status).toBe(200);
  await eventually(async () => (await eventsOf(locker, 'LockerClosed')) === 2, { timeoutMs: 60_000 });
  expect(await eventsOf(locker, 'LockerOpened')).toBe(2);
}, 120_000);

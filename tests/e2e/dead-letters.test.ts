/** What units send and the platform cannot accept, end to end: pushed with a unit's credentials, seen and retried over REST. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { atTheEnd } from '../support/cleanup.ts';
import { type Answer, Client, fields, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { EPOCH } from '../support/given.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { ScriptableUnit } from '../support/scriptable-unit.ts';

let platform: Platform;
let ops: Client;
let postgres: Postgres;
const units: ScriptableUnit[] = [];

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'dead-letters' });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  postgres = new Postgres({ url: platform.postgres.url, applicationName: 'test' });
}, 120_000);

afterAll(async () => {
  await Promise.all(units.map((unit) => unit.stop()));
  await postgres.close();
  await platform.stop();
});

/** A unit that only pushes, and what operators see of it. */
class PushingUnit {
  readonly name: string;
  readonly #unit: ScriptableUnit;

  private constructor(unit: ScriptableUnit) {
    this.name = unit.name;
    this.#unit = unit;
  }

  static async register(name: string): Promise<PushingUnit> {
    const unit = await ScriptableUnit.register(ops, name, { isOnline: false });
    unit.epoch = EPOCH;
    units.push(unit);
    return new PushingUnit(unit);
  }

  /** Pushes a batch or another payload, which JetStream stores. */
  async push(content: readonly object[] | string | Uint8Array): Promise<void> {
    expect(await this.#unit.push(content)).toMatchObject({ stream: 'UNIT_INBOX' });
  }

  /** The unit's events except its registration, the oldest first, as soon as there are `count`. */
  events(count: number, type?: string): Promise<Record<string, unknown>[]> {
    const query = new URLSearchParams({ unit: this.name, limit: '100', ...(type === undefined ? {} : { type }) });
    return eventually(async () => {
      const found = items(await ops.get(`/v1/events?${query}`)).filter((event) => event.type !== 'UnitRegistered');
      return found.length >= count && found.toReversed();
    });
  }

  letters(query = ''): Promise<Answer> {
    return ops.get(`/v1/dead-letters?unit=${this.name}${query}`);
  }
}

function event(seq: number, changes: object = {}): object {
  return { seq, v: 1, type: 'LockerClosed', time: '2026-07-01T11:59:00.000Z', locker: 'A', data: {}, ...changes };
}

const retry = (id: unknown, key?: string) =>
  ops.post(`/v1/dead-letters/${id}/retry`, undefined, key === undefined ? {} : { 'idempotency-key': key });

const dismiss = (id: unknown, body?: object, key?: string) =>
  ops.post(`/v1/dead-letters/${id}/dismiss`, body, key === undefined ? {} : { 'idempotency-key': key });

/** What an upgrade does, seen from the letter: what it says is accepted from now on. */
async function becomesAcceptable(id: unknown, content: object): Promise<void> {
  await postgres.sql`
    update platform.dead_letters set content = convert_to(${JSON.stringify(content)}, 'UTF8') where id = ${String(id)}`;
}

describe('an event that cannot be accepted', () => {
  test('is rejected in its place in the log and kept whole, and the rest of its batch is recorded', async () => {
    const unit = await PushingUnit.register('DL-MIXED');
    const oversized = event(4, { data: { log: 'x'.repeat(250_000) } });
    const nul = event(5, { type: 'a\u0000', data: { 'b\u0000': '\ud800' } });
    const foreign = event(6, { type: 'ReservationConfirmed' });
    await unit.push([
      event(1),
      event(2, { v: 'one' }),
      event(3, { tilt: 1, data: { new: 1 } }),
      oversized,
      nul,
      foreign,
    ]);
    await unit.push([event(7)]);
    const events = await unit.events(7);
    expect(events.map(({ unitseq, type }) => [unitseq, type])).toEqual([
      [1, 'LockerClosed'],
      [2, 'UnitEventRejected'],
      [3, 'LockerClosed'],
      [4, 'UnitEventRejected'],
      [5, 'UnitEventRejected'],
      [6, 'UnitEventRejected'],
      [7, 'LockerClosed'],
    ]);
    expect(events[2]).toMatchObject({ data: { new: 1 }, unitextra: '{"tilt":1}' });

    const list = await unit.letters('&count=true&kind=event&status=open');
    expect(list.body).toMatchObject({ total: 4, nextCursor: null });
    const letters = new Map(items(list).map((letter) => [letter.seq, letter]));
    for (const [seq, sent] of [
      [4, oversized],
      [5, nul],
      [6, foreign],
    ] as const) {
      const letter = letters.get(seq);
      expect(letter).toMatchObject({
        unit: unit.name,
        epoch: EPOCH,
        status: 'open',
        bytes: JSON.stringify(sent).length,
      });
      expect(letter).not.toHaveProperty('content');
      const whole = await ops.get(`/v1/dead-letters/${letter?.id}`);
      expect(whole).toMatchObject({ status: 200, body: { ...letter, content: sent } });
      const refused = await retry(letter?.id, `first-try-${seq}`);
      expect(refused).toMatchObject({ status: 409, body: { type: '/problems/dead-letter-refused', status: 409 } });
      expect(text(refused, 'detail')).toContain(String(letter?.reason));
      expect((await retry(letter?.id, `first-try-${seq}`)).body).toEqual(refused.body);
    }
    expect(items(await unit.letters('&status=recovered'))).toEqual([]);
  });

  test('that reports the end of a rental is recovered once, and completes the reservation', async () => {
    const unit = await PushingUnit.register('DL-USE');
    const customer = new Client(platform.api, await platform.token('customer', 'carol'));
    const held = await eventually(async () => {
      const answer = await customer.post('/v1/reservations', { unit: unit.name, locker: 'A', ...period(0, 60) });
      return answer.status === 201 && answer;
    });
    const reservationId = text(held, 'id');
    await customer.post(`/v1/reservations/${reservationId}/confirm`, { paymentReference: 'pay_1' });

    const started = { type: 'RentalStarted', data: { rentalId: 'r', reservationId, until: '2026-07-01T13:00:00Z' } };
    const ended = { type: 'RentalEnded', data: { rentalId: 'r', reservationId, reason: 'lost-in-space' } };
    await unit.push([event(1, started), event(2, ended)]);
    const status = async (wanted: string) => {
      const answer = await customer.get(`/v1/reservations/${reservationId}`);
      return answer.body.status === wanted;
    };
    await eventually(() => status('active'));

    const [letter] = await eventually(async () => items(await unit.letters()));
    expect(letter).toMatchObject({ seq: 2, status: 'open' });
    await becomesAcceptable(letter?.id, event(2, { ...ended, data: { ...ended.data, reason: 'given-back' } }));
    const answers = await Promise.all([
      retry(letter?.id, 'by-alice'),
      retry(letter?.id, 'by-alice'),
      retry(letter?.id, 'by-bob'),
      retry(letter?.id),
    ]);
    for (const answer of answers) {
      // Of two with one key, the second may come while the first still runs.
      if (answer.body.type === '/problems/idempotency-key-reused') continue;
      expect(answer).toMatchObject({ status: 200, body: { id: letter?.id, status: 'recovered' } });
      expect(answer.headers.get('lockfleet-position')).toMatch(/^\d+$/);
    }
    await eventually(() => status('completed'));
    expect(await unit.events(1, 'UnitEventRecovered')).toMatchObject([
      { subject: `${unit.name}/A`, actor: 'ops:operator', data: { epoch: EPOCH, seq: 2, type: 'RentalEnded' } },
    ]);
    expect((await retry(letter?.id)).status).toBe(200);
    expect(await unit.events(1, 'UnitEventRecovered')).toHaveLength(1);
    expect(items(await unit.letters('&status=recovered'))).toMatchObject([{ id: letter?.id }]);
  });
});

test('events of an unknown type or version are recorded unchanged, and stall neither the unit nor a read model', async () => {
  const unit = await PushingUnit.register('DL-FUTURE');
  const other = await PushingUnit.register('DL-OTHER');
  await unit.push([
    event(1, { type: 'LockerSang', v: 4, data: { song: 'la' } }),
    event(2, { type: 'RentalStarted', v: 2, data: { renter: {} } }),
    event(3, { type: 'LockerOpened', data: { cause: 'service' } }),
  ]);
  await other.push([event(1)]);
  expect(await unit.events(3)).toMatchObject([
    { type: 'LockerSang', dataschema: 'LockerSang/4', data: { song: 'la' } },
    { type: 'RentalStarted', dataschema: 'RentalStarted/2', data: { renter: {} } },
    { type: 'LockerOpened' },
  ]);
  await other.events(1);
  // No read model stopped at them.
  await eventually(async () => {
    const { body } = await ops.get(`/v1/units/${unit.name}`);
    expect(body).toMatchObject({ log: { recordedSeq: 3 }, lockerDetails: [{ id: 'A', door: 'open' }] });
  });
  expect(items(await unit.letters())).toEqual([]);
});

test('ingest records a batch that it cannot parse as UnitBatchRejected and keeps its bytes in a dead letter', async () => {
  const unit = await PushingUnit.register('DL-BATCH');
  const lie = JSON.stringify({ unit: 'DL-OTHER', epoch: EPOCH, events: [event(1)] });
  await unit.push('{"unit":');
  await unit.push(lie);
  await unit.push(new Uint8Array([0xff, 0]));
  await unit.push([event(1)]);
  const events = await unit.events(4);
  expect(events.map(({ type }) => type).toSorted()).toEqual([
    'LockerClosed',
    'UnitBatchRejected',
    'UnitBatchRejected',
    'UnitBatchRejected',
  ]);
  const letters = await Promise.all(
    items(await unit.letters('&kind=batch')).map(async ({ id }) => (await ops.get(`/v1/dead-letters/${id}`)).body),
  );
  expect(letters.map(({ text, base64 }) => text ?? base64).toSorted()).toEqual(['/wA=', '{"unit":', lie].toSorted());
  for (const { id, reason } of letters) {
    const refused = await retry(id);
    expect(refused).toMatchObject({ status: 409, body: { type: '/problems/dead-letter-refused' } });
    expect(text(refused, 'detail')).toContain(String(reason));
  }
  const [first] = letters;
  await becomesAcceptable(first?.id, { unit: unit.name, epoch: EPOCH, events: [event(1), event(2)] });
  expect(await retry(first?.id)).toMatchObject({ status: 200, body: { status: 'recovered', kind: 'batch' } });
  await unit.events(5);
  expect((await unit.events(2, 'LockerClosed')).map(({ unitseq }) => unitseq)).toEqual([1, 2]);
});

test('operators dismiss one dead letter or all of a unit, with a reason or without', async () => {
  const unit = await PushingUnit.register('DL-DISMISS');
  await unit.push(Array.from({ length: 5 }, (_, index) => event(index + 1, { data: 'none' })));
  await unit.push('no batch');
  await unit.events(6);
  const [first, second, third] = items(await unit.letters('&kind=event'));

  const dismissed = await dismiss(first?.id, { reason: 'a prototype' }, 'away');
  expect(dismissed).toMatchObject({
    status: 200,
    body: {
      ...{ ...first, status: 'dismissed', dismissedBy: 'ops:operator', dismissReason: 'a prototype' },
      dismissedAt: text(dismissed, 'dismissedAt'),
    },
  });
  expect(await dismiss(first?.id, { reason: 'a prototype' }, 'away')).toMatchObject({ body: dismissed.body });
  expect(await dismiss(first?.id, { reason: 'another' }, 'away')).toMatchObject({ status: 422 });
  expect(await dismiss(first?.id, { reason: 'another' })).toMatchObject({ status: 200, body: dismissed.body });
  expect(await dismiss(second?.id)).toMatchObject({ status: 200, body: { dismissReason: null } });
  expect((await ops.get(`/v1/dead-letters/${first?.id}`)).body).toMatchObject({ ...dismissed.body, content: { v: 1 } });
  expect((await unit.letters('&status=dismissed&count=true')).body.total).toBe(2);

  await becomesAcceptable(third?.id, event(Number(third?.seq)));
  await retry(third?.id);
  expect(await dismiss(third?.id)).toMatchObject({ status: 409, body: { type: '/problems/precondition-failed' } });

  const all = (query: string, body?: object) =>
    ops.post(`/v1/dead-letters/dismiss${query}`, body, { 'idempotency-key': `all${query}` });
  expect(await all('?unit=DL-DISMISS&kind=batch')).toMatchObject({ status: 200, body: { dismissed: 1 } });
  expect(await all('?unit=DL-DISMISS', { reason: 'all' })).toMatchObject({ status: 200, body: { dismissed: 2 } });
  expect((await all('?unit=DL-DISMISS', { reason: 'all' })).body).toEqual({ dismissed: 2 });
  expect(items(await unit.letters('&status=open'))).toEqual([]);
  expect((await unit.letters('&status=dismissed&count=true')).body.total).toBe(5);
  expect((await unit.letters('&status=recovered&count=true')).body.total).toBe(1);
});

test('the routes of dead letters answer operators only, and name each invalid field', async () => {
  const customer = new Client(platform.api, await platform.token('customer', 'dave'));
  const id = '00000000-0000-4000-8000-000000000000';
  expect((await customer.get('/v1/dead-letters')).status).toBe(403);
  expect((await new Client(platform.api).get(`/v1/dead-letters/${id}`)).status).toBe(401);
  expect((await customer.post(`/v1/dead-letters/${id}/retry`)).status).toBe(403);
  expect((await customer.post(`/v1/dead-letters/${id}/dismiss`)).status).toBe(403);
  expect((await customer.post('/v1/dead-letters/dismiss?unit=DL-MIXED')).status).toBe(403);
  expect((await dismiss(id)).status).toBe(404);
  expect(fields(await dismiss('7'))).toEqual(['/params/id']);
  expect(fields(await dismiss(id, { why: 'x' }))).toEqual(['/why']);
  expect(fields(await dismiss(id, { reason: 'nul\0' }))).toEqual(['/reason']);
  expect(fields(await ops.post('/v1/dead-letters/dismiss'))).toEqual(['/query/unit']);
  expect((await ops.get(`/v1/dead-letters/${id}`)).status).toBe(404);
  expect((await retry(id)).status).toBe(404);
  expect(fields(await ops.get('/v1/dead-letters/7'))).toEqual(['/params/id']);
  expect(fields(await ops.get('/v1/dead-letters?status=odd'))).toEqual(['/query/status']);
  const cursors = ['x', Buffer.from('[1,"x"]').toString('base64url'), Buffer.from('[null,null]').toString('base64url')];
  for (const cursor of cursors) {
    expect(fields(await ops.get(`/v1/dead-letters?cursor=${cursor}`))).toEqual(['/query/cursor']);
  }
});

// The test starts Postgres again on the same port and folder before it ends, so that other tests may follow.
test('what a unit pushes while Postgres is stopped is recorded after Postgres is back, and nothing is lost', async () => {
  const unit = await PushingUnit.register('DL-AWAY');
  await unit.push([event(1)]);
  await unit.events(1);
  await platform.postgres.stop();
  await unit.push([event(2), event(3, { data: 'none' }), event(4)]);
  await unit.push('not a batch');
  await unit.push([event(5)]);
  await eventually(async () => (await ops.get('/v1/dead-letters')).status === 503);
  const again = await startEmbeddedPostgres({
    dataDir: join(platform.dataDir, 'postgres'),
    port: Number(new URL(platform.postgres.url).port),
    log: () => undefined,
  });
  atTheEnd(() => again.stop());
  await unit.events(6);
  const events = await unit.events(6);
  expect(events.filter(({ unitseq }) => unitseq !== undefined).map(({ unitseq, type }) => [unitseq, type])).toEqual([
    [1, 'LockerClosed'],
    [2, 'LockerClosed'],
    [3, 'UnitEventRejected'],
    [4, 'LockerClosed'],
    [5, 'LockerClosed'],
  ]);
  expect(events.filter(({ type }) => type === 'UnitBatchRejected')).toHaveLength(1);
  expect(
    items(await unit.letters())
      .map(({ kind }) => kind)
      .toSorted(),
  ).toEqual(['batch', 'event']);
});

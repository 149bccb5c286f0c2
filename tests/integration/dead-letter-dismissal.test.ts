/** Dead letters that operators put away, on a real Postgres: out of the way of their unit, and not gone. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { loadMigrations, migrate } from '../../platform/postgres/migrations.ts';
import { type DeadLetterOptions, DeadLetterStore } from '../../platform/unit-log/dead-letter-store.ts';
import { Problem } from '../../server/http/problems.ts';
import { EPOCH } from '../support/given.ts';
import { bad, batch, becomesAcceptable, event, LetterProcess, NOW_MS, TIME, types } from '../support/letter-process.ts';
import { freshPostgres } from '../support/projections.ts';
import { freshDatabase } from '../support/services.ts';
import { silentLog } from '../support/silent-log.ts';

const NOWHERE = '00000000-0000-4000-8000-000000000000';
const HOUR_MS = 3_600_000;

let postgres: Postgres;

beforeAll(async () => {
  postgres = await freshPostgres();
});

afterAll(() => postgres.close());

function process(options: DeadLetterOptions = {}): LetterProcess {
  return new LetterProcess(postgres.sql, new MemoryEventStore(() => NOW_MS), options);
}

/** The ids of a unit's letters with a status, by seq. */
async function ids({ letters }: LetterProcess, unit: string, status: 'open' | 'recovered' | 'dismissed') {
  const { items } = await letters.list({ unit, status, limit: 100, count: true });
  return items.toSorted((a, b) => (a.seq ?? 0) - (b.seq ?? 0)).map(({ id }) => id);
}

async function problemOf(work: Promise<unknown>) {
  const error = await work.catch((thrown: unknown) => thrown);
  if (error instanceof Problem) return error.document;
  throw new Error('it was not refused');
}

describe('a dismissed letter', () => {
  test('names the first operator, time and reason of its dismissal, and keeps its content', async () => {
    const some = process();
    const { service, letters } = some;
    await some.push('ONE', batch('ONE', bad(1), bad(2)));
    const [first = '', second = ''] = (await letters.list({ unit: 'ONE', limit: 10 })).items.map(({ id }) => id);
    const before = JSON.parse(await service.jsonWithContent(first));
    const answer = await service.dismiss(first, 'ops:alice', 'a prototype');
    expect(answer).toMatchObject({
      status: 200,
      body: {
        ...{ id: first, status: 'dismissed', recoveredAt: null },
        ...{ dismissedAt: new Date(NOW_MS).toISOString(), dismissedBy: 'ops:alice', dismissReason: 'a prototype' },
      },
    });
    expect(await service.dismiss(first, 'ops:bob', 'me too')).toEqual(answer);
    expect(JSON.parse(await service.jsonWithContent(first))).toEqual({ ...before, ...answer.body });

    const silent = await service.dismiss(second, 'ops:alice', undefined);
    expect(silent.body).toMatchObject({ status: 'dismissed', dismissReason: null });
    expect((await service.dismiss(second, 'ops:bob', 'a reason after all')).body).toEqual(silent.body);
  });

  test('is listed under the status dismissed only', async () => {
    const some = process();
    await some.push('LISTED', batch('LISTED', bad(1), bad(2), bad(3)));
    const [first = '', second = '', third = ''] = await ids(some, 'LISTED', 'open');
    await some.service.dismiss(second, 'ops:alice', undefined);
    await becomesAcceptable(postgres.sql, third, event(3));
    await some.retry(third);
    expect(await ids(some, 'LISTED', 'open')).toEqual([first]);
    expect(await ids(some, 'LISTED', 'dismissed')).toEqual([second]);
    expect(await ids(some, 'LISTED', 'recovered')).toEqual([third]);
    expect((await some.letters.list({ unit: 'LISTED', limit: 10, count: true })).total).toBe(3);
  });

  test('can be recovered after the rules have changed, and cannot be dismissed after its recovery', async () => {
    const some = process();
    await some.push('LATER', batch('LATER', bad(1)));
    const [id = ''] = await ids(some, 'LATER', 'open');
    await some.service.dismiss(id, 'ops:alice', 'hopeless');
    expect(await some.refusal(id)).toMatchObject({ type: '/problems/dead-letter-refused', status: 409 });
    expect(await ids(some, 'LATER', 'dismissed')).toEqual([id]);

    await becomesAcceptable(postgres.sql, id, event(1));
    expect(await some.retry(id)).toMatchObject({
      body: { status: 'recovered', dismissedBy: 'ops:alice', dismissReason: 'hopeless' },
    });
    expect(types(await some.events('LATER'))).toEqual(['UnitEventRejected', 'UnitEventRecovered']);
    expect(await ids(some, 'LATER', 'dismissed')).toEqual([]);
    expect(await problemOf(some.service.dismiss(id, 'ops:bob', undefined))).toMatchObject({
      type: '/problems/precondition-failed',
      status: 409,
    });
    expect(await ids(some, 'LATER', 'recovered')).toEqual([id]);
  });

  test('stays dismissed when its batch is delivered again', async () => {
    const some = process();
    const rejections = [{ seq: 1, reason: 'r', content: JSON.stringify(bad(1)), hasDuplicateSeq: false }];
    await some.letters.insertRejectedEvents({ unit: 'AGAIN', epoch: EPOCH, receivedAtMs: NOW_MS, rejections });
    const [id = ''] = await ids(some, 'AGAIN', 'open');
    await some.service.dismiss(id, 'ops:alice', undefined);
    expect(await some.push('AGAIN', batch('AGAIN', bad(1), event(2)))).toBe('done');
    expect(types(await some.events('AGAIN'))).toEqual(['UnitEventRejected', 'LockerClosed']);
    expect(await ids(some, 'AGAIN', 'dismissed')).toEqual([id]);
    expect(await ids(some, 'AGAIN', 'open')).toEqual([]);
  });

  test('that does not exist cannot be dismissed', async () => {
    expect(await problemOf(process().service.dismiss(NOWHERE, 'ops:alice', undefined))).toMatchObject({ status: 404 });
  });
});

describe('all open letters of a unit', () => {
  test('are dismissed together, or only those of one kind, and those of other units stay open', async () => {
    const some = process();
    await some.push('ALL', batch('ALL', bad(1), bad(2), bad(3), bad(4)));
    await some.push('ALL', 'no batch');
    await some.push('ELSE', batch('ELSE', bad(1)));
    const [recovered = '', dismissed = ''] = (await ids(some, 'ALL', 'open')).slice(1);
    await postgres.sql`update platform.dead_letters set recovered_at = now() where id = ${recovered}`;
    await some.service.dismiss(dismissed, 'ops:alice', 'before');

    const dismiss = (kind?: 'event' | 'batch') =>
      some.service.dismissOpen({ unit: 'ALL', kind }, 'ops:bob', 'all of it');
    expect(await dismiss('batch')).toEqual({ status: 200, body: { dismissed: 1 } });
    expect((await some.open('ALL')).map(({ kind }) => kind)).toEqual(['event', 'event']);
    expect(await dismiss()).toEqual({ status: 200, body: { dismissed: 2 } });
    expect(await dismiss()).toEqual({ status: 200, body: { dismissed: 0 } });
    expect(await ids(some, 'ALL', 'recovered')).toEqual([recovered]);
    const { items } = await some.letters.list({ unit: 'ALL', status: 'dismissed', limit: 10 });
    expect(items.map(({ dismissedBy, dismissReason }) => `${dismissedBy}: ${dismissReason}`).toSorted()).toEqual([
      'ops:alice: before',
      ...Array(3).fill('ops:bob: all of it'),
    ]);
    expect(await some.open('ELSE')).toHaveLength(1);
  });

  test('are dismissed up to a limit per call, the oldest first, and concurrent calls count each letter once', async () => {
    const some = process({ maxDismissedPerCall: 3 });
    await some.push('MANY', batch('MANY', ...Array.from({ length: 8 }, (_, index) => bad(index + 1))));
    await postgres.sql`
      update platform.dead_letters set received_at = received_at - seq * interval '1 second' where unit = 'MANY'`;
    const dismiss = async () => (await some.service.dismissOpen({ unit: 'MANY' }, 'ops:bob', undefined)).body.dismissed;
    expect(await dismiss()).toBe(3);
    expect((await some.open('MANY')).map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5]);
    const counts = await Promise.all([dismiss(), dismiss(), dismiss(), dismiss()]);
    expect((await some.open('MANY')).length + counts.reduce((sum, count) => sum + count)).toBe(5);
    while ((await dismiss()) > 0);
    expect(await ids(some, 'MANY', 'dismissed')).toHaveLength(8);
  });
});

test('batches of a unit with too many open letters are delayed until letters are dismissed', async () => {
  const some = process({ maxOpenPerUnit: 2 });
  await some.push('FULL', batch('FULL', bad(1), bad(2)));
  const more = batch('FULL', event(3), bad(4), bad(5), event(6));
  expect(await some.push('FULL', more)).toEqual({ park: expect.stringContaining('open dead letters') });
  const [first = ''] = await ids(some, 'FULL', 'open');
  await some.service.dismiss(first, 'ops:alice', undefined);
  expect(await some.push('FULL', more)).toBe('done');
  // Full again.
  const last = batch('FULL', event(7), bad(8));
  expect(await some.push('FULL', last)).toEqual({ park: expect.stringContaining('open dead letters') });
  await some.service.dismissOpen({ unit: 'FULL' }, 'ops:alice', undefined);
  expect(await some.push('FULL', last)).toBe('done');
  const seqs = (await some.events('FULL')).flatMap(({ unitseq }) => unitseq ?? []);
  expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

test('a rejected event is recovered with the clock offset at its rejection, not at its retry', async () => {
  const store = new MemoryEventStore(() => NOW_MS);
  const offsets = new Map([['WRONG', HOUR_MS]]);
  const some = new LetterProcess(postgres.sql, store, {}, offsets);
  await some.push('WRONG', batch('WRONG', bad(1)));
  await some.push('RIGHT', batch('RIGHT', bad(1)));
  offsets.set('WRONG', -5 * HOUR_MS).set('RIGHT', HOUR_MS);
  for (const unit of ['WRONG', 'RIGHT']) {
    const [id = ''] = await ids(some, unit, 'open');
    await becomesAcceptable(postgres.sql, id, event(1));
    await some.retry(id);
  }
  const [rejected, recovered] = await some.events('WRONG');
  expect(rejected).toMatchObject({ type: 'UnitEventRejected', clockoffsetms: HOUR_MS });
  expect(recovered?.data).toMatchObject({ type: 'LockerClosed', time: TIME, clockOffsetMs: HOUR_MS });
  expect((await some.events('RIGHT'))[1]?.data).not.toHaveProperty('clockOffsetMs');
});

test('the migration that adds dismissals keeps the status of existing letters', async () => {
  const old = new Postgres({ url: await freshDatabase(), applicationName: 'test' });
  try {
    const before = (await loadMigrations()).filter(({ name }) => name < '005');
    await migrate(old, silentLog, before);
    await old.sql`
      insert into platform.dead_letters (kind, unit, place, reason, content, received_at, recovered_at)
      values ('batch', 'OLD', 'a', 'r', 'x', now(), null), ('batch', 'OLD', 'b', 'r', 'x', now(), now())`;
    await migrate(old, silentLog);
    const letters = new DeadLetterStore(old.sql);
    const { items } = await letters.list({ unit: 'OLD', limit: 10 });
    expect(items.map(({ status }) => status).toSorted()).toEqual(['open', 'recovered']);
    expect(await letters.dismissOpen({ unit: 'OLD' }, { by: 'ops:alice', atMs: NOW_MS })).toBe(1);
  } finally {
    await old.close();
  }
});

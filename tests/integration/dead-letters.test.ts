/** Dead letters on a real Postgres: kept whole, listed, recovered once, and bounded per unit. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import type { DeadLetter, DeadLetterOptions } from '../../platform/unit-log/dead-letter-store.ts';
import { UnreadablePageError } from '../../platform/unit-log/unit-log-client.ts';
import { EPOCH } from '../support/given.ts';
import {
  bad,
  batch,
  becomesAcceptable as becomes,
  event,
  LetterProcess,
  NOW_MS,
  TIME,
  types,
} from '../support/letter-process.ts';
import { freshPostgres } from '../support/projections.ts';

let postgres: Postgres;

beforeAll(async () => {
  postgres = await freshPostgres();
});

afterAll(() => postgres.close());

/** A process of the platform. */
class Process extends LetterProcess {
  constructor(store = new MemoryEventStore(() => NOW_MS), options: DeadLetterOptions = {}) {
    super(postgres.sql, store, options);
  }
}

const becomesAcceptable = (id: string, content: object | string) => becomes(postgres.sql, id, content);

async function onlyLetter(process: Process, unit: string): Promise<DeadLetter> {
  const open = await process.open(unit);
  expect(open).toHaveLength(1);
  return open[0] as DeadLetter;
}

describe('an event', () => {
  test('is kept to the letter, and shown so', async () => {
    const process = new Process();
    const text = '{ "seq":1, "v":1, "data":{"serial":12345678901234567890,"nul":"\\u0000\\ud800","n":1e400} }';
    expect(await process.push('WHOLE', `{"unit":"WHOLE","epoch":"${EPOCH}","events":[ ${text} ]}`)).toBe('done');
    const letter = await onlyLetter(process, 'WHOLE');
    expect(letter).toMatchObject({ kind: 'event', epoch: EPOCH, seq: 1, bytes: text.length, status: 'open' });
    expect(await process.service.jsonWithContent(letter.id)).toEndWith(`,"content":${text}}`);
    expect(types(await process.events('WHOLE'))).toEqual(['UnitEventRejected']);
  });

  test('is refused as long as today’s rules refuse it, and then recovered once, by how many it is tried', async () => {
    const store = new MemoryEventStore(() => NOW_MS);
    const processes = [new Process(store), new Process(store), new Process(store)] as const;
    const [first] = processes;
    await first.push('ONCE', batch('ONCE', event(1), bad(2), event(3)));
    const { id } = await onlyLetter(first, 'ONCE');
    expect(await first.refusal(id)).toMatchObject({
      type: '/problems/dead-letter-refused',
      status: 409,
      detail: expect.stringContaining('/data: '),
    });
    expect(await onlyLetter(first, 'ONCE')).toMatchObject({ id, recoveredAt: null });

    await becomesAcceptable(id, event(2, { locker: 'B', causationId: 'c', offline: true, firmware: 2 }));
    // A connection for each, so that all find the letter open: opening one takes longer than a recovery.
    await Promise.all([...processes, ...processes].map(() => postgres.sql`select pg_sleep(0.1)`));
    const answers = await Promise.all([...processes, ...processes].map((process) => process.retry(id)));
    const [position] = new Set(answers.map((answer) => answer.position));
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 200, body: { id, status: 'recovered' }, position });
    }
    const events = await first.events('ONCE');
    expect(types(events)).toEqual(['LockerClosed', 'UnitEventRejected', 'LockerClosed', 'UnitEventRecovered']);
    expect(events.at(-1)).toMatchObject({
      subject: 'ONCE/B',
      actor: 'ops:test',
      data: {
        ...{ epoch: EPOCH, seq: 2, type: 'LockerClosed', v: 1, time: TIME, data: {} },
        ...{ offline: true, causationId: 'c', extra: { firmware: 2 } },
      },
    });
    expect(await first.retry(id)).toMatchObject({ status: 200, body: { status: 'recovered' } });
    expect(await first.events('ONCE')).toHaveLength(4);
  });

  test('is not recovered twice when the mark is lost', async () => {
    const process = new Process();
    await process.push('MARK', batch('MARK', bad(1)));
    const { id } = await onlyLetter(process, 'MARK');
    await becomesAcceptable(id, event(1));
    await process.retry(id);
    await postgres.sql`update platform.dead_letters set recovered_at = null where id = ${id}`;
    const again = new Process(process.store);
    expect(await again.retry(id)).toMatchObject({ status: 200, body: { status: 'recovered' } });
    expect(types(await again.events('MARK'))).toEqual(['UnitEventRejected', 'UnitEventRecovered']);
  });

  test('of a type that is not known yet can be recovered', async () => {
    const process = new Process();
    await process.push('FUTURE', batch('FUTURE', bad(1)));
    const { id } = await onlyLetter(process, 'FUTURE');
    await becomesAcceptable(id, event(1, { type: 'LockerSang', v: 3, data: { song: 'la' } }));
    await process.retry(id);
    expect((await process.events('FUTURE')).at(-1)?.data).toMatchObject({ type: 'LockerSang', v: 3 });
  });

  test('whose place is not taken yet waits: it may still be recorded as itself', async () => {
    const process = new Process();
    const rejections = [{ seq: 1, reason: 'r', content: JSON.stringify(event(1)), hasDuplicateSeq: false }];
    await process.letters.insertRejectedEvents({ unit: 'EARLY', epoch: EPOCH, receivedAtMs: NOW_MS, rejections });
    const { id } = await onlyLetter(process, 'EARLY');
    expect((await process.refusal(id)).detail).toContain('has not reached its seq');
    expect(await process.events('EARLY')).toEqual([]);
  });

  test('whose place another event of its batch has is kept, and not recovered', async () => {
    const process = new Process();
    const others = [event(1, { locker: 'B' }), event(1, { locker: 'C' })];
    await process.push('DOUBLE', batch('DOUBLE', event(1), ...others, event(2)));
    expect(types(await process.events('DOUBLE'))).toEqual(['LockerClosed', 'LockerClosed']);
    const open = await process.open('DOUBLE');
    expect(open).toHaveLength(2);
    for (const { id } of open) expect(await process.refusal(id)).toMatchObject({ status: 409 });
  });
});

describe('a batch', () => {
  test('that is no text is kept byte for byte', async () => {
    const process = new Process();
    const bytes = new Uint8Array([0, 0xff, 0x7b, 0]);
    expect(await process.push('BYTES', bytes)).toBe('done');
    const letter = await onlyLetter(process, 'BYTES');
    expect(letter).toMatchObject({ kind: 'batch', bytes: 4, epoch: null, seq: null });
    const whole = JSON.parse(await process.service.jsonWithContent(letter.id));
    expect([...Buffer.from(whole.base64, 'base64')]).toEqual([...bytes]);
    expect(await process.events('BYTES')).toMatchObject([
      { type: 'UnitBatchRejected', data: { bytes: 4, reason: letter.reason } },
    ]);
    expect((await process.refusal(letter.id)).detail).toContain('UTF-8');
  });

  test('that can be read by now is recorded, without what is recorded already', async () => {
    const process = new Process();
    await process.push('READ', '{"unit":"READ"');
    const { id } = await onlyLetter(process, 'READ');
    expect((await process.refusal(id)).detail).toContain('JSON');

    await becomesAcceptable(id, batch('READ', event(3), event(4)));
    expect((await process.refusal(id)).detail).toContain('before seq 3');
    await process.push('READ', batch('READ', event(1), event(2), event(3)));
    expect(await process.retry(id)).toMatchObject({ status: 200, position: 3, body: { id, status: 'recovered' } });
    const seqs = (await process.events('READ')).flatMap(({ unitseq }) => unitseq ?? []);
    expect(seqs).toEqual([1, 2, 3, 4]);
  });

  test('of an epoch that ended before anything of it was recorded stays open: it would be taken for the present one', async () => {
    const process = new Process();
    const newer = EPOCH.replace('018f', '0190');
    await process.push('EPOCH', 'nothing');
    await process.push('EPOCH', JSON.stringify({ unit: 'EPOCH', epoch: newer, events: [event(1)] }));
    const { id } = await onlyLetter(process, 'EPOCH');
    await becomesAcceptable(id, batch('EPOCH', event(1)));
    expect((await process.refusal(id)).detail).toContain('epoch');
    await becomesAcceptable(id, JSON.stringify({ unit: 'EPOCH', epoch: newer, events: [event(2)] }));
    expect(await process.retry(id)).toMatchObject({ status: 200 });
  });

  test('whose events were given up as lost stays open', async () => {
    const process = new Process();
    await process.push('LOST', 'nothing');
    await process.recorder.recordLostRange('LOST', EPOCH, 3);
    await process.push('LOST', batch('LOST', event(3)));
    const { id } = await onlyLetter(process, 'LOST');
    await becomesAcceptable(id, batch('LOST', event(1), event(2)));
    expect((await process.refusal(id)).detail).toContain('given up');
    expect(await process.open('LOST')).toHaveLength(1);
  });
});

describe('a page that a unit answers with', () => {
  test('has a place for an event without a seq, even when it is all there is', async () => {
    const process = new Process();
    await process.push('PAGE', batch('PAGE', event(1), event(2)));
    expect(await process.fetch('PAGE', [{ type: 'Odd' }], 3)).toBe(1);
    expect(types(await process.events('PAGE')).slice(-1)).toEqual(['UnitEventRejected']);
    expect(await onlyLetter(process, 'PAGE')).toMatchObject({ kind: 'event', seq: 3 });
  });

  test('and cannot be read is noted and kept once, however often it is fetched', async () => {
    const process = new Process();
    const contradicting = [event(1), { type: 'Odd' }, event(9)];
    for (let round = 0; round < 3; round += 1) {
      const failure = await process.fetch('STUCK', contradicting, 9).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(UnreadablePageError);
    }
    expect(types(await process.events('STUCK'))).toEqual(['UnitRegistered', 'UnitBatchRejected']);
    expect(await onlyLetter(process, 'STUCK')).toMatchObject({ kind: 'batch' });
  });
});

test('a unit with too many open letters waits, others go on, and it goes on when some are recovered', async () => {
  const process = new Process(undefined, { maxOpenPerUnit: 2 });
  expect(await process.push('FULL', batch('FULL', event(1), bad(2), bad(3)))).toBe('done');
  const more = batch('FULL', event(4), bad(5), event(6));
  const waits = { park: expect.stringContaining('open dead letters') };
  expect(await process.push('FULL', more)).toEqual(waits);
  expect(await process.push('FULL', 'not a batch')).toEqual(waits);
  expect(await process.push('OTHER', batch('OTHER', bad(1), event(2)))).toBe('done');
  expect(types(await process.events('OTHER'))).toEqual(['UnitEventRejected', 'LockerClosed']);
  expect(await process.open('FULL')).toHaveLength(2);

  const [letter] = await process.open('FULL');
  await becomesAcceptable(letter?.id ?? '', event(letter?.seq ?? 0));
  await process.retry(letter?.id ?? '');
  expect(await process.push('FULL', more)).toBe('done');
  const seqs = (await process.events('FULL')).flatMap(({ unitseq }) => unitseq ?? []);
  expect(seqs).toEqual([1, 2, 3, 4, 5, 6]);
  // The list is full again. Inserting an event that it already has is no error.
  const kept = [{ seq: 5, reason: 'r', content: '{}', hasDuplicateSeq: false }];
  await process.letters.insertRejectedEvents({ unit: 'FULL', epoch: EPOCH, receivedAtMs: NOW_MS, rejections: kept });
});

test('a batch is delivered again after every step at which its process can die', async () => {
  const process = new Process();
  const text = batch('AGAIN', event(1), bad(2), event(3));
  const rejections = [{ seq: 2, reason: 'r', content: JSON.stringify(bad(2)), hasDuplicateSeq: false }];
  await process.letters.insertRejectedEvents({ unit: 'AGAIN', epoch: EPOCH, receivedAtMs: NOW_MS, rejections });
  for (let delivery = 0; delivery < 3; delivery += 1) {
    expect(await new Process(process.store).push('AGAIN', text)).toBe('done');
  }
  expect(types(await process.events('AGAIN'))).toEqual(['LockerClosed', 'UnitEventRejected', 'LockerClosed']);
  expect(await process.open('AGAIN')).toHaveLength(1);
});

describe('the list', () => {
  test('pages join without loss or repeat, also between letters of one moment, while others come', async () => {
    const process = new Process();
    for (let seq = 1; seq <= 7; seq += 1) await process.push('LIST', batch('LIST', bad(seq)));
    const seen: (number | null)[] = [];
    for (let cursor: string | undefined; ; ) {
      const query = { unit: 'LIST', limit: 2, ...(cursor === undefined ? {} : { cursor }) };
      const page = await process.letters.list({ ...query, count: true });
      seen.push(...page.items.map(({ seq }) => seq));
      expect(page.total).toBeGreaterThanOrEqual(7);
      if (page.nextCursor === null) break;
      cursor = page.nextCursor;
      // Newer than all: no page that follows shows it.
      await postgres.sql`
        insert into platform.dead_letters (kind, unit, place, reason, content, received_at)
        values ('batch', 'LIST', ${cursor}, 'r', '', ${new Date(NOW_MS + 1)})`;
    }
    expect(seen.toSorted()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect((await process.letters.list({ unit: 'LIST', kind: 'batch', limit: 10 })).items).toHaveLength(3);
    expect((await process.letters.list({ unit: 'LIST', status: 'recovered', limit: 10 })).items).toEqual([]);
  });
});

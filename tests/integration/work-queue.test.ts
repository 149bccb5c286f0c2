/** Work queues on a real NATS and a real Postgres: a unit whose work fails delays no other unit, and its work is not lost. */

import { afterAll, afterEach, beforeAll, expect, test } from 'bun:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { api, publishStored } from '../../platform/nats/jetstream.ts';
import type { ParkedWork } from '../../platform/nats/parked-work.ts';
import { jobSubject, unitOfUnitSubject, unitPushSubject } from '../../platform/nats/subjects.ts';
import { addJob } from '../../platform/nats/timers.ts';
import { consumeWork, type WorkerOptions, type WorkMessage, type WorkResult } from '../../platform/nats/work-queue.ts';
import { MAX_PLACES_PER_UNIT } from '../../platform/nats/work-runner.ts';
import { ParkedWorkStore } from '../../platform/parked-work/parked-work-store.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { freePort } from '../../platform/process/ports.ts';
import { eventually } from '../support/eventually.ts';
import { connectPlatform, testPlatform } from '../support/nats.ts';
import { freshPostgres } from '../support/projections.ts';
import { silentLog } from '../support/silent-log.ts';

const PUBLISH_TIMEOUT_MS = 5_000;
const TEST_TIMEOUT_MS = 60_000;
/** What a consumer sends of a message that is being handled. */
const IN_PROGRESS = '+WPI';
const HEARTBEATS_BEYOND_WAIT = 4;
/** The time after which NATS delivers the messages of a killed process again. */
const ACK_WAIT_NS = 5_000_000_000;
const HOUR_MS = 3_600_000;
const FLEET = Array.from({ length: 40 }, (_, n) => `FLEET-${n}`);

let nats: Nats;
let postgres: Postgres;
let parkedWork: ParkedWorkStore;
let stop = new AbortController();
let consumers: Promise<void>[] = [];

beforeAll(async () => {
  nats = await connectPlatform();
  postgres = await freshPostgres();
  parkedWork = new ParkedWorkStore(postgres.sql);
}, TEST_TIMEOUT_MS);

afterEach(async () => {
  stop.abort();
  await Promise.all(consumers);
  stop = new AbortController();
  consumers = [];
});

afterAll(async () => {
  await nats.close();
  await postgres.close();
});

type Handle = (unit: string, message: WorkMessage) => Promise<WorkResult>;

/** Starts a consumer of the jobs of a kind, in a queue of the same name. */
function consumeJobs(kind: string, handle: Handle, options: Partial<WorkerOptions> = {}): void {
  const { signal } = stop;
  consumers.push(
    consumeWork(nats, {
      stream: 'JOBS',
      durable: kind,
      filters: [`job.*.*.*.${kind}`],
      maxConcurrent: 8,
      parkedWork,
      handle: (message) => handle(unitOfUnitSubject(message.subject) ?? '', message),
      signal,
      sleep: (ms) => sleep(ms, undefined, { signal }).catch(() => undefined),
      log: silentLog,
      ...options,
    }),
  );
}

async function addJobs(kind: string, unit: string, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await addJob(nats, unit, kind);
}

/** Handles jobs: those of `BAD` by `bad`, and those of other units at once. */
function fleetHandler(bad: Handle): { readonly handle: Handle; readonly handled: Set<string> } {
  const handled = new Set<string>();
  const handle: Handle = async (unit, message) => {
    if (unit === 'BAD') return bad(unit, message);
    handled.add(unit);
    return 'done';
  };
  return { handle, handled };
}

async function addFleetJobs(kind: string): Promise<void> {
  for (const unit of FLEET) await addJob(nats, unit, kind);
}

/** The state of a consumer: messages that are unacknowledged, and those that were never delivered. */
async function pendingOf(kind: string): Promise<{ readonly unacknowledged: number; readonly undelivered: number }> {
  const info = await api<{ num_ack_pending: number; num_pending: number }>(nats, `CONSUMER.INFO.JOBS.${kind}`);
  return { unacknowledged: info.num_ack_pending, undelivered: info.num_pending };
}

/** Resolves when the consumer exists and every message is acknowledged. */
async function drained(kind: string): Promise<void> {
  await eventually(async () => {
    const { unacknowledged, undelivered } = await pendingOf(kind);
    return unacknowledged + undelivered === 0;
  });
}

test(
  'work that fails with a terminal error is parked once for its unit, and other units go on',
  async () => {
    const kind = 'terminal';
    let isMended = false;
    let badAttempts = 0;
    const { handle, handled } = fleetHandler(async () => {
      badAttempts += 1;
      if (!isMended) throw new RangeError('a commit has 1 to 500 events, not 600');
      return 'done';
    });
    await addJobs(kind, 'BAD', 100);
    await addFleetJobs(kind);
    consumeJobs(kind, handle);
    await eventually(() => handled.size === FLEET.length);
    await drained(kind);
    // Each message had one attempt.
    expect(badAttempts).toBe(100);
    const { items, total } = await parkedWork.list({ queue: kind, limit: 10, count: true });
    expect(total).toBe(1);
    expect(items[0]).toMatchObject({
      unit: 'BAD',
      job: kind,
      subject: jobSubject('BAD', kind),
      attempts: 1,
      error: 'a commit has 1 to 500 events, not 600',
    });
    expect(Date.parse(items[0]?.nextRetryAt ?? '') - Date.now()).toBeGreaterThan(HOUR_MS / 4);
    const reading = await parkedWork.metrics().read();
    expect(reading.parked_work).toMatchObject({ [kind]: 1, ingest: 0 });
    expect(reading.work_parked_total).toMatchObject({ [kind]: 100 });

    // An operator retries it in vain, and again after the fault is mended.
    const id = items[0]?.id ?? '';
    await parkedWork.retry(id);
    await eventually(async () => (await parkedWork.list({ queue: kind, limit: 1 })).items[0]?.attempts === 2);
    expect(await parkedWork.retry('00000000-0000-4000-8000-000000000000')).toBeUndefined();
    isMended = true;
    await parkedWork.retry(id);
    await eventually(async () => (await parkedWork.list({ queue: kind, limit: 1 })).items.length === 0);
    expect((await parkedWork.metrics().read()).parked_work).not.toHaveProperty(kind);
  },
  TEST_TIMEOUT_MS,
);

test(
  '600 jobs of one unit that wait without end take a bounded number of places, and other units go on',
  async () => {
    const kind = 'immortal';
    const { handle, handled } = fleetHandler(async () => ({
      retry: { firstMs: HOUR_MS, maxMs: HOUR_MS },
      reason: 'no answer',
    }));
    await addJobs(kind, 'BAD', 600);
    await addFleetJobs(kind);
    consumeJobs(kind, handle, { maxUnacknowledged: 2 * MAX_PLACES_PER_UNIT });
    await eventually(() => handled.size === FLEET.length);
    await eventually(async () => (await pendingOf(kind)).unacknowledged <= MAX_PLACES_PER_UNIT);
    const [parked] = (await parkedWork.list({ queue: kind, limit: 1 })).items;
    expect(parked).toMatchObject({ unit: 'BAD', reason: expect.stringContaining('wait in the queue') });
  },
  TEST_TIMEOUT_MS,
);

test(
  '256 jobs of one unit that does not answer are one job, and other units go on',
  async () => {
    const kind = 'silent';
    let attempts = 0;
    const { handle, handled } = fleetHandler(async () => {
      attempts += 1;
      return { retry: { firstMs: HOUR_MS, maxMs: HOUR_MS }, reason: 'no answer' };
    });
    await addJobs(kind, 'BAD', 256);
    await addFleetJobs(kind);
    consumeJobs(kind, handle, { newestOnly: true });
    await eventually(() => handled.size === FLEET.length);
    await eventually(async () => {
      const { unacknowledged, undelivered } = await pendingOf(kind);
      return unacknowledged === 1 && undelivered === 0;
    });
    expect(attempts).toBe(1);
    // A new job does not shorten the backoff. It stands for the earlier one.
    await addJob(nats, 'BAD', kind);
    await addJob(nats, 'LAST', kind);
    await eventually(() => handled.has('LAST'));
    await eventually(async () => (await pendingOf(kind)).unacknowledged === 1);
    expect(attempts).toBe(1);
  },
  TEST_TIMEOUT_MS,
);

test(
  'a job that arrives while another one of its unit runs is handled after it, and only the newest',
  async () => {
    const kind = 'newest';
    const sequences: number[] = [];
    const running = Promise.withResolvers<WorkResult>();
    consumeJobs(
      kind,
      async (_, { sequence }) => {
        sequences.push(sequence);
        return sequences.length === 1 ? running.promise : 'done';
      },
      { newestOnly: true },
    );
    await addJob(nats, 'BUSY', kind);
    await eventually(() => sequences.length === 1);
    await addJobs(kind, 'BUSY', 5);
    // The first one runs and the last one waits; the four between are acknowledged.
    await eventually(async () => {
      const { unacknowledged, undelivered } = await pendingOf(kind);
      return unacknowledged === 2 && undelivered === 0;
    });
    running.resolve('done');
    await drained(kind);
    expect(sequences).toHaveLength(2);
  },
  TEST_TIMEOUT_MS,
);

test(
  'a handler that takes longer than the acknowledgement wait runs once',
  async () => {
    const kind = 'slow';
    let [runs, heartbeats] = [0, 0];
    const unsubscribe = nats.subscribe('$JS.ACK.>', ({ subject, data }) => {
      if (subject.includes(`.${kind}.`) && new TextDecoder().decode(data) === IN_PROGRESS) heartbeats += 1;
    });
    consumeJobs(kind, async () => {
      runs += 1;
      // NATS waits 5 s after each of them, and they are 1.5 s apart at least: without them it would deliver the job again meanwhile.
      await eventually(() => heartbeats >= HEARTBEATS_BEYOND_WAIT, { timeoutMs: TEST_TIMEOUT_MS });
      return 'done';
    });
    await addJob(nats, 'SLOW', kind);
    await eventually(() => heartbeats >= HEARTBEATS_BEYOND_WAIT, { timeoutMs: TEST_TIMEOUT_MS });
    await drained(kind);
    expect(runs).toBe(1);
    unsubscribe();
  },
  TEST_TIMEOUT_MS,
);

test(
  'another process takes over the messages of a killed one',
  async () => {
    const kind = 'killed';
    // The consumer is created, and then a process takes the message and vanishes.
    consumeJobs(kind, async () => 'done');
    await eventually(() => pendingOf(kind).then(() => true));
    stop.abort();
    await Promise.all(consumers);
    await addJob(nats, 'KILLED', kind);
    const { url, creds } = await testPlatform();
    const killed = await Nats.connect({ url, creds, name: 'is killed', log: silentLog });
    const consumer = await killed.client.jetstream().consumers.get('JOBS', kind);
    const taken = await consumer.next({ expires: PUBLISH_TIMEOUT_MS });
    expect(unitOfUnitSubject(taken?.subject ?? '')).toBe('KILLED');
    await killed.close();

    stop = new AbortController();
    const handled: string[] = [];
    consumeJobs(kind, async (unit) => {
      handled.push(unit);
      return 'done';
    });
    await eventually(() => handled.length > 0, { timeoutMs: TEST_TIMEOUT_MS });
    expect(handled).toEqual(['KILLED']);
    const { config } = await api<{ config: { ack_wait: number } }>(nats, `CONSUMER.INFO.JOBS.${kind}`);
    expect(config.ack_wait).toBe(ACK_WAIT_NS);
  },
  TEST_TIMEOUT_MS,
);

test(
  'while Postgres is away, work that would be parked is retried, and it is parked when Postgres is back',
  async () => {
    const kind = 'no-postgres';
    const url = `postgres://nobody@127.0.0.1:${freePort()}/nothing`;
    const away = new Postgres({ url, applicationName: 'away', maxConnections: 1 });
    const awayStore = new ParkedWorkStore(away.sql);
    let refused = 0;
    let isAway = true;
    const park: ParkedWork['park'] = async (work) => {
      if (!isAway) return parkedWork.park(work);
      refused += 1;
      return awayStore.park(work);
    };
    const fallible: ParkedWork = {
      park,
      claimDue: (queue, limit) => (isAway ? awayStore : parkedWork).claimDue(queue, limit),
      complete: (work, through) => parkedWork.complete(work, through),
      postpone: (work, after) => parkedWork.postpone(work, after),
      retrySoon: (key) => parkedWork.retrySoon(key),
      countRetry: () => undefined,
    };
    await addJob(nats, 'BAD', kind);
    const handle = async () => {
      throw new TypeError('undefined is not a function');
    };
    consumeJobs(kind, handle, { parkedWork: fallible });
    await eventually(() => refused > 0);
    expect((await pendingOf(kind)).unacknowledged).toBe(1);
    isAway = false;
    await eventually(async () => (await parkedWork.list({ queue: kind, limit: 1 })).items.length === 1);
    await drained(kind);
    await away.close();
  },
  TEST_TIMEOUT_MS,
);

test(
  'a retry handles every event that was parked, with its payload and in order',
  async () => {
    const kind = 'payloads';
    const unit = 'PARKED-EVENTS';
    const store = new NatsEventStore(
      nats,
      () => crypto.randomUUID(),
      () => performance.now(),
    );
    let expectedSequence = 0;
    const append = async (text: string) => {
      const envelope = {
        specversion: '1.0',
        id: text,
        source: '/t',
        type: 'T',
        subject: unit,
        dataschema: 'T/1',
      } as const;
      const events = [{ ...envelope, time: '2026-07-01T10:00:00.000Z', data: { text } }];
      const appended = await store.append({ unit, aggregate: 'log', expectedSequence, commandId: text, events });
      expectedSequence = appended.sequence;
    };
    let isMended = false;
    const texts: string[] = [];
    const handle = async (_: string, { data }: WorkMessage): Promise<WorkResult> => {
      if (!isMended) return { park: 'not mended' };
      texts.push(JSON.parse(new TextDecoder().decode(data))[0].data.text);
      return 'done';
    };
    consumeJobs(kind, handle, { stream: 'EVENTS', filters: [`evt.*.*.${unit}.log`] });
    // More than one retry handles at a time.
    const all = Array.from({ length: 120 }, (_, n) => `text-${n}`);
    for (const text of all) await append(text);
    const rowOf = async () => (await parkedWork.list({ queue: kind, unit, limit: 1 })).items[0];
    await eventually(async () => (await rowOf())?.lastSequence === expectedSequence);
    isMended = true;
    await parkedWork.retry((await rowOf())?.id ?? '');
    await eventually(async () => (await rowOf()) === undefined);
    expect(texts).toEqual(all);
  },
  TEST_TIMEOUT_MS,
);

test(
  'a parked message whose payload the stream would delete stays in the stream until it is handled',
  async () => {
    const kind = 'kept';
    const subject = unitPushSubject('KEPT');
    let isMended = false;
    const payloads: string[] = [];
    const handle = async (_: string, { data }: WorkMessage): Promise<WorkResult> => {
      if (!isMended) throw new RangeError('the batch cannot be recorded');
      payloads.push(new TextDecoder().decode(data));
      return 'done';
    };
    consumeJobs(kind, handle, { stream: 'UNIT_INBOX', filters: [subject], keepsParkedMessages: true });
    await publishStored(nats, { subject, payload: 'the batch', headers: {} }, PUBLISH_TIMEOUT_MS);
    const rows = async () => (await parkedWork.list({ queue: kind, limit: 1 })).items;
    await eventually(async () => (await rows()).length === 1);
    isMended = true;
    await parkedWork.retry((await rows())[0]?.id ?? '');
    await eventually(async () => (await rows()).length === 0);
    expect(payloads).toEqual(['the batch']);
  },
  TEST_TIMEOUT_MS,
);

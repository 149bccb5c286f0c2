import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { StoreUnavailableError } from '../../platform/event-store/store.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { ensureStreams } from '../../platform/nats/ensure-streams.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { GroupCommit } from '../../platform/nats/group-commit.ts';
import { api, publishStored } from '../../platform/nats/jetstream.ts';
import { OrderedAcks } from '../../platform/nats/ordered-acks.ts';
import { eventSubject, unitPushSubject } from '../../platform/nats/subjects.ts';
import { consumeWork } from '../../platform/nats/work-queue.ts';
import { retryWithBackoff } from '../../platform/retry/retry-policy.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { connectPlatform, quietLog, testPlatform } from '../support/nats.ts';
import { seededRandom } from '../support/random.ts';
import { silentLog } from '../support/silent-log.ts';

const TIMEOUT_MS = 5_000;
let nats: Nats;
let units = 0;

beforeAll(async () => {
  nats = await connectPlatform();
});
afterAll(() => nats.close());

function newUnit(): string {
  units += 1;
  return `W-${units}`;
}

const newId = () => crypto.randomUUID();

test('preparing the streams is retried while NATS does not answer, and succeeds once it does', async () => {
  const { url, creds } = await testPlatform();
  const proxy = await FaultProxy.start({ target: url, random: seededRandom() });
  const proxied = await Nats.connect({ url: proxy.url, creds, name: 'through a proxy', log: silentLog });
  try {
    proxy.set({ stalled: ['down'] });
    let pauses = 0;
    const healAfterFirst = async () => {
      pauses += 1;
      proxy.heal();
    };
    const retryOptions = { signal: new AbortController().signal, sleep: healAfterFirst, log: silentLog };
    await retryWithBackoff('preparing the streams', retryOptions, () => ensureStreams(proxied));
    expect(pauses).toBe(1);
  } finally {
    await proxied.close();
    await proxy.stop();
  }
}, 15_000);

describe('a reader of the store', () => {
  test('buffers a bounded number of messages, however slowly they are handled', async () => {
    const store = new NatsEventStore(nats, newId, () => performance.now());
    const after = await store.lastSequence();
    const commits = 300;
    for (let index = 0; index < commits; index += 1) await appendText(store, 100_000);
    const stop = new AbortController();
    const reading = store.read({ after, signal: stop.signal, onAlarm: () => undefined })[Symbol.asyncIterator]();
    const first = await reading.next();
    expect(first.value?.sequence).toBe(after + 1);
    const delivered = await lastDelivered('EVENTS');
    expect(delivered).toBeGreaterThan(after);
    // The store sent at most two pulls of eight megabytes, of the thirty megabytes in the stream.
    expect(delivered - after).toBeLessThan(2 * 84 + 2);
    let last = after + 1;
    while (last < after + commits) last = (await reading.next()).value?.sequence ?? Number.POSITIVE_INFINITY;
    expect(last).toBe(after + commits);
    stop.abort();
    expect((await reading.next()).done).toBe(true);
  }, 30_000);
});

test('messages that are lost on the way to a reader are read again, and are not reported as a gap of the store', async () => {
  const store = new NatsEventStore(nats, newId, () => performance.now());
  const after = await store.lastSequence();
  const commits = 400;
  for (let index = 0; index < commits; index += 1) await appendText(store, 5_000);
  const { url, creds } = await testPlatform();
  const proxy = await FaultProxy.start({ target: url, random: seededRandom() });
  const proxied = await Nats.connect({ url: proxy.url, creds, name: 'through a proxy', log: silentLog });
  const reader = new NatsEventStore(proxied, newId, () => performance.now());
  const stop = new AbortController();
  const read: number[] = [];
  let breaks = 0;
  while (read.length < commits) {
    const last = read.at(-1) ?? after;
    // The messages on their way are lost, and the client reconnects at once.
    proxy.cutAfter(300_000, 'down');
    try {
      for await (const { sequence } of reader.read({ after: last, signal: stop.signal, onAlarm: () => undefined })) {
        read.push(sequence);
        if (read.length === commits) break;
      }
    } catch (error) {
      expect(error).toBeInstanceOf(StoreUnavailableError);
      breaks += 1;
      await eventually(() => proxied.connected);
    }
  }
  expect(read).toEqual(Array.from({ length: commits }, (_, index) => after + 1 + index));
  expect(breaks).toBeGreaterThan(2);
  await proxied.close();
  await proxy.stop();
}, 30_000);

async function appendText(store: NatsEventStore, length: number): Promise<void> {
  const unit = newUnit();
  const event = { specversion: '1.0', id: newId(), source: '/t', type: 'T', subject: unit, dataschema: 'T/1' } as const;
  const events = [{ ...event, time: '2026-07-01T10:00:00.000Z', data: { text: 'x'.repeat(length) } }];
  await store.append({ unit, aggregate: 'log', expectedSequence: 0, commandId: newId(), events });
}

/** The highest sequence that was delivered to a consumer of a stream. */
async function lastDelivered(stream: string): Promise<number> {
  const list = await api<{ consumers: { delivered: { stream_seq: number } }[] | null }>(
    nats,
    `CONSUMER.LIST.${stream}`,
  );
  return Math.max(0, ...(list.consumers ?? []).map(({ delivered }) => delivered.stream_seq));
}

describe('group commit', () => {
  const message = (unit: string, payload: string) => ({ subject: eventSubject(unit, 'log'), payload, headers: {} });

  test('an interactive append waits for at most two groups of background appends', async () => {
    const commits = new GroupCommit(nats, newId, () => performance.now());
    const order: string[] = [];
    const background = Array.from({ length: 60 }, () =>
      commits.store(message(newUnit(), 'x'.repeat(60_000)), 'background').then(() => order.push('background')),
    );
    await sleep(1);
    const interactive = commits.store(message(newUnit(), 'y')).then(() => order.push('interactive'));
    await Promise.all([...background, interactive]);
    // The store is committing one group, of at most eight of the 60 appends; the interactive append joins the next group.
    expect(order.indexOf('interactive')).toBeLessThan(17);
    expect(order).toHaveLength(61);
  });

  test('a background append is stored although interactive appends keep coming', async () => {
    const commits = new GroupCommit(nats, newId, () => performance.now());
    let stored = false;
    const background = commits.store(message(newUnit(), 'x'), 'background').then(() => {
      stored = true;
    });
    for (let index = 0; index < 2_000 && !stored; index += 1) await commits.store(message(newUnit(), 'y'));
    await background;
    expect(stored).toBe(true);
  });
});

describe('acknowledgements in order', () => {
  test('remove every message from the stream, from whichever consumer it came', async () => {
    // Earlier tests may have left consumers and messages in the stream.
    const left = await api<{ consumers: string[] | null }>(nats, 'CONSUMER.NAMES.UNIT_INBOX');
    for (const name of left.consumers ?? []) await api(nats, `CONSUMER.DELETE.UNIT_INBOX.${name}`);
    await api(nats, 'STREAM.PURGE.UNIT_INBOX');
    const letters = [...'0123456789abcdef'];
    const subjects = Array.from({ length: 200 }, () => unitPushSubject(newUnit()));
    for (const subject of subjects) await publishStored(nats, { subject, payload: 'x', headers: {} }, TIMEOUT_MS);
    const acks = new OrderedAcks(nats, (ms) => sleep(ms));
    const stop = new AbortController();
    const handled: string[] = [];
    const workers = letters.map((letter) =>
      consumeWork(nats, {
        stream: 'UNIT_INBOX',
        durable: `test-${letter}`,
        filters: [`unit.${letter}.*.*.events`],
        maxConcurrent: 8,
        isStateInMemory: true,
        acks,
        handle: async (message) => {
          handled.push(message.subject);
          return 'done';
        },
        signal: stop.signal,
        sleep: (ms) => sleep(ms),
        log: quietLog,
      }),
    );
    await eventually(async () => {
      const { state } = await api<{ state: { messages: number } }>(nats, 'STREAM.INFO.UNIT_INBOX');
      return state.messages === 0;
    });
    stop.abort();
    await Promise.all(workers);
    await acks.settled();
    for (const letter of letters) await api(nats, `CONSUMER.DELETE.UNIT_INBOX.test-${letter}`);
    expect([...handled].sort()).toEqual([...subjects].sort());
  });
});

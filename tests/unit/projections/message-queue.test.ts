import { expect, test } from 'bun:test';
import type { StoredMessage } from '../../../platform/event-store/store.ts';
import { MessageQueue } from '../../../projections/engine/consume/message-queue.ts';

function message(sequence: number, bytes = 400): StoredMessage {
  const place = { sequence, unit: 'PL-1000', aggregate: 'device', lane: 7 } as const;
  return { ...place, recordedAtMs: 0, commandId: 'c', bytes, events: () => [] };
}

test('a queue holds each message once and in order, and skips messages that are no commit', () => {
  const queue = new MessageQueue(10);
  for (const sequence of [9, 10, 11, 12, 11, 12, 14]) queue.enqueue(message(sequence));
  queue.skipTo(15);
  queue.skipTo(3);
  expect(queue.messages.map(({ sequence }) => sequence)).toEqual([11, 12, 14]);
  expect(queue.readTo).toBe(15);
});

test('the reader waits while a queue is full, until messages are applied or the process stops', async () => {
  const queue = new MessageQueue(0);
  for (let sequence = 1; !queue.isFull; sequence++) queue.enqueue(message(sequence));
  const stop = new AbortController();
  let hasSpace = false;
  const waiting = queue.waitForSpace(stop.signal).then(() => {
    hasSpace = true;
  });
  await Promise.resolve();
  expect(hasSpace).toBe(false);
  queue.removeFirst(1);
  await waiting;
  queue.enqueue(message(1_000_000));
  const stopped = queue.waitForSpace(stop.signal);
  stop.abort();
  await stopped;
});

test('fewer large messages fill a queue, and it has space again when they are applied', () => {
  const large = 512 * 1024;
  const queue = new MessageQueue(0);
  for (let sequence = 1; !queue.isFull; sequence++) queue.enqueue(message(sequence, large));
  expect(queue.messages.length).toBeLessThan(32);
  queue.removeFirst(queue.messages.length - 1);
  const isFull = () => queue.isFull;
  expect(isFull()).toBe(false);
  while (!isFull()) queue.enqueue(message(queue.readTo + 1, large));
  expect(queue.messages.length).toBeLessThan(32);
});

test('a waiting filler continues when a message arrives, when the queue is notified, and after the timeout', async () => {
  const queue = new MessageQueue(0);
  for (const notify of [() => queue.enqueue(message(1)), () => queue.skipTo(2), () => queue.notify()]) {
    const change = queue.waitForChange();
    notify();
    await change;
  }
  await queue.waitForChange(1);
});

test('a closed queue drops its messages and never makes the reader wait', async () => {
  const queue = new MessageQueue(0);
  for (let sequence = 1; !queue.isFull; sequence++) queue.enqueue(message(sequence));
  queue.close();
  queue.enqueue(message(queue.readTo + 1));
  expect(queue.messages).toEqual([]);
  await queue.waitForSpace(new AbortController().signal);
});

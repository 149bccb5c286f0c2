import { expect, test } from 'bun:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ByteSemaphore } from '../../../server/workers/ingest/byte-semaphore.ts';

test('one batch enters in each turn of the event loop, in order', async () => {
  const turns = new ByteSemaphore(1_000);
  const entered: number[] = [];
  const all = [1, 2, 3].map((batch) => turns.run(10, async () => entered.push(batch)));
  const seen: number[] = [];
  while (entered.length < 3) {
    await nextTurn();
    seen.push(entered.length);
  }
  await Promise.all(all);
  expect(entered).toEqual([1, 2, 3]);
  expect(Math.max(...seen.map((count, turn) => count - (seen[turn - 1] ?? 0)))).toBe(1);
});

test('concurrent batches stay within the byte limit, and a batch above the limit runs alone', async () => {
  const turns = new ByteSemaphore(100);
  let heldBytes = 0;
  let most = 0;
  const gates = [60, 60, 30, 500, 10].map((bytes) => ({ bytes, gate: Promise.withResolvers<void>() }));
  const all = gates.map(({ bytes, gate }) =>
    turns.run(bytes, async () => {
      heldBytes += bytes;
      if (bytes <= 100) most = Math.max(most, heldBytes);
      else expect(heldBytes).toBe(bytes);
      await gate.promise;
      heldBytes -= bytes;
    }),
  );
  for (const { gate } of gates) {
    await nextTurn();
    await nextTurn();
    await nextTurn();
    gate.resolve();
  }
  await Promise.all(all);
  expect(most).toBe(90);
});

test('a batch that fails releases its bytes', async () => {
  const turns = new ByteSemaphore(10);
  const failing = turns.run(10, () => Promise.reject(new Error('no')));
  expect(await failing.catch((error: Error) => error.message)).toBe('no');
  expect(await turns.run(10, async () => 'yes')).toBe('yes');
});

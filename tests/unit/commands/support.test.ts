import { expect, test } from 'bun:test';
import { eventually } from '../../support/eventually.ts';
import { seededRandom } from '../../support/random.ts';

test('eventually returns the value of the first successful attempt', async () => {
  let tries = 0;
  const attempt = () => {
    tries += 1;
    if (tries === 1) throw new Error('not yet');
    return tries === 2 ? false : tries;
  };
  expect(await eventually(attempt, { intervalMs: 1 })).toBe(3);
});

test('eventually fails at its deadline with the error of the last attempt', async () => {
  const attempt = () => {
    throw new Error('the door is closed');
  };
  await expect(eventually(attempt, { timeoutMs: 20, intervalMs: 1 })).rejects.toThrow('the door is closed');
});

test('eventually fails at its deadline also when an attempt hangs', async () => {
  const attempt = () => new Promise<true>(() => undefined);
  await expect(eventually(attempt, { timeoutMs: 20 })).rejects.toThrow('not within 20 ms');
});

test('seededRandom repeats its numbers for the same seed', () => {
  const [a, b] = [seededRandom(7), seededRandom(7)];
  const draws = Array.from({ length: 100 }, () => a.next());
  expect(draws).toEqual(Array.from({ length: 100 }, () => b.next()));
  expect(draws.every((draw) => draw >= 0 && draw < 1)).toBe(true);
  expect(new Set(draws).size).toBe(100);
});

test('below stays within its bound, and pick returns every element', () => {
  const random = seededRandom(7);
  const picked = new Set(Array.from({ length: 100 }, () => random.pick(['S', 'M', 'L'])));
  expect([...picked].sort()).toEqual(['L', 'M', 'S']);
  expect(Array.from({ length: 100 }, () => random.below(5)).every((n) => n >= 0 && n < 5)).toBe(true);
});

import { expect, test } from 'bun:test';
import { Canary } from '../../../pinger/probes/canary.ts';

test('those who ask at the same time share an attempt, and who asks during one waits for the next', async () => {
  const attempts: PromiseWithResolvers<boolean>[] = [];
  const canary = new Canary(() => {
    const attempt = Promise.withResolvers<boolean>();
    attempts.push(attempt);
    return attempt.promise;
  });
  const [first, second] = [canary.ask(), canary.ask()];
  await Promise.resolve();
  expect(attempts).toHaveLength(1);
  const later = canary.ask();
  attempts[0]?.resolve(true);
  expect(await Promise.all([first, second])).toEqual([true, true]);
  while (attempts.length < 2) await Bun.sleep(1);
  attempts[1]?.resolve(false);
  expect(await later).toBe(false);
});

test('a machine that has what it takes can connect to itself', async () => {
  const canary = new Canary();
  expect([await canary.ask(), await canary.ask()]).toEqual([true, true]);
});

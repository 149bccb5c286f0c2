import { expect, test } from 'bun:test';
import { SelfConnectCheck } from '../../../pinger/probes/self-connect-check.ts';

test('concurrent checks share one attempt, and a check during an attempt waits for the next', async () => {
  const attempts: PromiseWithResolvers<boolean>[] = [];
  const canary = new SelfConnectCheck(() => {
    const attempt = Promise.withResolvers<boolean>();
    attempts.push(attempt);
    return attempt.promise;
  });
  const [first, second] = [canary.canConnect(), canary.canConnect()];
  await Promise.resolve();
  expect(attempts).toHaveLength(1);
  const later = canary.canConnect();
  attempts[0]?.resolve(true);
  expect(await Promise.all([first, second])).toEqual([true, true]);
  while (attempts.length < 2) await Bun.sleep(1);
  attempts[1]?.resolve(false);
  expect(await later).toBe(false);
});

test('the check succeeds on a machine with free ports', async () => {
  const canary = new SelfConnectCheck();
  expect([await canary.canConnect(), await canary.canConnect()]).toEqual([true, true]);
});

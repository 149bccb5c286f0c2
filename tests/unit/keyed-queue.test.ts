import { describe, expect, test } from 'bun:test';
import { KeyedQueue, QueueFullError } from '../../platform/units/keyed-queue.ts';

describe('a keyed queue', () => {
  test('runs tasks of one key in order, one at a time, and those of another key beside them', async () => {
    const queue = new KeyedQueue(10);
    const gate = Promise.withResolvers<void>();
    const trace: string[] = [];
    const task = (name: string, until?: Promise<void>) => async () => {
      trace.push(`${name} starts`);
      await until;
      trace.push(`${name} ends`);
    };
    const first = queue.run('a', task('a1', gate.promise));
    const second = queue.run('a', task('a2'));
    await queue.run('b', task('b1'));
    expect(trace).toEqual(['a1 starts', 'b1 starts', 'b1 ends']);
    gate.resolve();
    await Promise.all([first, second]);
    expect(trace).toEqual(['a1 starts', 'b1 starts', 'b1 ends', 'a1 ends', 'a2 starts', 'a2 ends']);
  });

  test('passes on results and errors, and a task that fails does not stop the next one', async () => {
    const queue = new KeyedQueue(10);
    const failing = queue.run('a', () => Promise.reject(new RangeError('no')));
    const next = queue.run('a', async () => 'result');
    await expect(failing).rejects.toThrow(RangeError);
    expect(await next).toBe('result');
  });

  test('refuses a task when its key has too many, and forgets a key without tasks', async () => {
    const queue = new KeyedQueue(2);
    const gate = Promise.withResolvers<void>();
    const running = [queue.run('a', () => gate.promise), queue.run('a', () => gate.promise)];
    await expect(queue.run('a', async () => undefined)).rejects.toThrow(QueueFullError);
    await queue.run('b', async () => undefined);
    expect(queue.keys).toBe(1);
    gate.resolve();
    await Promise.all(running);
    expect(queue.keys).toBe(0);
    await queue.run('a', async () => undefined);
  });
});

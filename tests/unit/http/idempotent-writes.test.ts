/** Writes under an `Idempotency-Key`: a repeat gets the first answer again and changes nothing. */

import { beforeEach, describe, expect, test } from 'bun:test';
import type { Claim, IdempotencyStore, KeyId } from '../../../server/http/idempotency-store.ts';
import { type Answer, IdempotentWrites } from '../../../server/http/idempotent-writes.ts';
import { Problem } from '../../../server/http/problems.ts';

/** Keeps keys as the table does, without leases and time. */
class KeysInMemory implements Pick<IdempotencyStore, 'claim' | 'finish' | 'release'> {
  readonly #keys = new Map<string, { readonly hash: string; answer?: Answer }>();

  async claim(id: KeyId, hash: string): Promise<Claim> {
    const kept = this.#keys.get(JSON.stringify(id));
    if (kept === undefined) {
      this.#keys.set(JSON.stringify(id), { hash });
      return { outcome: 'claimed' };
    }
    if (kept.hash !== hash) return { outcome: 'other-body' };
    return kept.answer === undefined ? { outcome: 'running' } : { outcome: 'done', answer: kept.answer };
  }

  async finish(id: KeyId, answer: Answer): Promise<void> {
    const kept = this.#keys.get(JSON.stringify(id));
    if (kept !== undefined) kept.answer = answer;
  }

  async release(id: KeyId): Promise<void> {
    this.#keys.delete(JSON.stringify(id));
  }
}

const ALICE = { role: 'customer', sub: 'alice' } as const;
let writes: IdempotentWrites;
let commands: string[];

beforeEach(() => {
  commands = [];
  writes = new IdempotentWrites(new KeysInMemory() as unknown as IdempotencyStore, () => 'a-new-id');
});

async function write(run: () => Promise<Answer> = created, changes: object = {}) {
  const headers: Record<string, string> = {};
  const request = { caller: ALICE, route: 'POST /v1/things', key: 'key-1', content: { a: 1 }, ...changes };
  const { code, response } = await writes.run(request, headers, (commandId) => {
    commands.push(commandId);
    return run();
  });
  return { status: code, body: response, headers };
}

async function created(): Promise<Answer> {
  return { status: 201, body: { secret: 's', id: 1 }, keptBody: { id: 1 }, position: 42 };
}

async function problemOf(promise: Promise<unknown>): Promise<Problem> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Problem) return error;
  }
  throw new Error('The write was not refused by a problem.');
}

describe('a repeat with the key', () => {
  test('gets the first answer with its position, without secrets that are shown once, and does not run the handler', async () => {
    expect(await write()).toEqual({
      status: 201,
      body: { secret: 's', id: 1 },
      headers: { 'lockfleet-position': '42' },
    });
    expect(await write()).toEqual({ status: 201, body: { id: 1 }, headers: { 'lockfleet-position': '42' } });
    expect(commands).toHaveLength(1);
  });

  test('gets the first refusal', async () => {
    const refuse = () => Promise.reject(new Problem('no-locker-free', 409, 'No locker is free.'));
    const first = await problemOf(write(refuse));
    const again = await problemOf(write());
    expect(again.document).toEqual(first.document);
    expect(commands).toHaveLength(1);
  });

  test.each([
    ['a problem of the platform', new Problem('unit-offline', 503, 'The unit did not answer.')],
    ['an error that it does not foresee', new Error('broken')],
  ])('runs again after %s', async (_, error) => {
    expect(await write(() => Promise.reject(error)).catch((thrown: unknown) => thrown)).toBe(error);
    expect((await write()).status).toBe(201);
    expect(new Set(commands).size).toBe(1);
  });

  test('is refused with another body, and while the first one runs', async () => {
    const first = Promise.withResolvers<Answer>();
    const running = write(() => first.promise);
    expect((await problemOf(write())).document).toMatchObject({
      type: '/problems/idempotency-key-reused',
      status: 409,
    });
    first.resolve(await created());
    await running;
    const other = await problemOf(write(created, { content: { a: 2 } }));
    expect(other.document).toMatchObject({ type: '/problems/idempotency-key-reused', status: 422 });
  });
});

describe('the id of a command', () => {
  test('is derived from caller, route and key', async () => {
    await write();
    for (const changes of [
      { caller: { role: 'customer', sub: 'bob' } },
      { caller: { role: 'ops', sub: 'alice' } },
      { route: 'POST /v1/others' },
      { key: 'key-2' },
    ]) {
      await write(created, changes);
    }
    // A client may repeat a request over an upgrade: the ids must stay what they are.
    expect(commands[0]).toBe('047bb7e2-83b9-5822-88de-e74f5f68ebe1');
    expect(new Set(commands).size).toBe(5);
  });

  test('is new without a key, and the answer is not stored', async () => {
    await write(created, { key: undefined });
    await write(created, { key: undefined });
    expect(commands).toEqual(['a-new-id', 'a-new-id']);
  });

  test.each(['', 'x'.repeat(201)])('a key of 0 or 201 characters is refused', async (key) => {
    const { document } = await problemOf(write(created, { key }));
    expect(document).toMatchObject({ status: 422, errors: [{ path: '/headers/Idempotency-Key' }] });
    expect(commands).toEqual([]);
  });
});

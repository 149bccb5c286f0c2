/** Writes under an `Idempotency-Key`: a repeat gets the first answer again and changes nothing. */

import { beforeEach, describe, expect, test } from 'bun:test';
import type { Claim, IdempotencyStore, KeyId, Lease } from '../../../server/http/idempotency-store.ts';
import { type Answer, IdempotentWrites } from '../../../server/http/idempotent-writes.ts';
import { Problem } from '../../../server/http/problems.ts';

interface KeptKey {
  readonly hash: string;
  readonly lease: Lease;
  isRunning: boolean;
  answer?: Answer;
}

/** Keeps keys as the table does, without time. */
class KeysInMemory implements Pick<IdempotencyStore, 'claim' | 'finish' | 'release'> {
  readonly #keys = new Map<string, KeptKey>();

  async claim(id: KeyId, hash: string): Promise<Claim> {
    const kept = this.#keys.get(JSON.stringify(id));
    if (kept === undefined) {
      const lease = { commandId: `command-${this.#keys.size + 1}`, attempt: 1 };
      this.#keys.set(JSON.stringify(id), { hash, lease, isRunning: true });
      return { outcome: 'claimed', lease };
    }
    if (kept.hash !== hash) return { outcome: 'other-body' };
    if (kept.answer !== undefined) return { outcome: 'done', answer: kept.answer };
    if (kept.isRunning) return { outcome: 'running' };
    kept.isRunning = true;
    return { outcome: 'claimed', lease: kept.lease };
  }

  async finish(id: KeyId, _: Lease, answer: Answer): Promise<void> {
    const kept = this.#keys.get(JSON.stringify(id));
    if (kept !== undefined) kept.answer = answer;
  }

  async release(id: KeyId): Promise<void> {
    const kept = this.#keys.get(JSON.stringify(id));
    if (kept !== undefined) kept.isRunning = false;
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
    expect((await problemOf(write(created, { content: { a: 2 } }))).document.status).toBe(422);
    expect((await write()).status).toBe(201);
    expect(commands).toEqual(['command-1', 'command-1']);
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

describe('the body of a repeat', () => {
  /** Whether `repeat` counts as the same request as `first`; both are JSON texts. */
  async function isSame(first: string, repeat: string): Promise<boolean> {
    await write(created, { content: JSON.parse(first) });
    const again = await write(created, { content: JSON.parse(repeat) }).catch((error: unknown) => error);
    if (again instanceof Problem) expect(again.document.status).toBe(422);
    return !(again instanceof Problem);
  }

  test.each([
    ['members in another order', '{"a":1,"b":{"c":[1,2],"d":"x"}}', '{"b":{"d":"x","c":[1,2]},"a":1}'],
    ['another notation of a number', '{"a":1,"b":100,"c":0.5}', '{"a":1.0,"b":1e2,"c":5E-1}'],
    ['another notation of a text', '{"a":"\u00e9\u002f"}', '{"a":"é/"}'],
    ['other white space', '{"a":[1,2]}', ' { "a" : [ 1 , 2 ] } '],
  ])('is the same with %s', async (_, first, repeat) => {
    expect(await isSame(first, repeat)).toBe(true);
  });

  test.each([
    ['an absent member is not null', '{"a":1}', '{"a":1,"b":null}'],
    ['a number is no text', '{"a":1}', '{"a":"1"}'],
    ['an empty list is not an absent one', '{"a":[]}', '{}'],
    ['lists have an order', '{"a":[1,2]}', '{"a":[2,1]}'],
    ['texts are compared as they are', '{"a":"\u00e9"}', '{"a":"e\u0301"}'],
  ])('is another one: %s', async (_, first, repeat) => {
    expect(await isSame(first, repeat)).toBe(false);
  });

  test('is refused when a text has half a surrogate pair', async () => {
    const problem = await problemOf(write(created, { content: { a: '\ud800' } }));
    expect(problem.document).toMatchObject({ type: '/problems/validation', status: 422 });
    expect(commands).toEqual([]);
  });
});

describe('the id of a command', () => {
  test('belongs to caller, route and key', async () => {
    await write();
    for (const changes of [
      { caller: { role: 'customer', sub: 'bob' } },
      { caller: { role: 'ops', sub: 'alice' } },
      { route: 'POST /v1/others' },
      { key: 'key-2' },
    ]) {
      await write(created, changes);
    }
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

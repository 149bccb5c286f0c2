/** Routes compare the body of a repeated request by its canonical JSON, after validation. */

import { beforeEach, expect, test } from 'bun:test';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { apiWithoutServices } from '../../support/api.ts';

const hashes: string[] = [];
const app = apiWithoutServices({
  newId: () => 'an-id',
  tokens: { verify: async (token: string) => ({ sub: 'me', role: token }) },
  postgres: { sql: async () => [{ id: 'an-id' }] },
  idempotency: {
    claim: async (_: unknown, bodyHash: string) => {
      hashes.push(bodyHash);
      return { outcome: 'other-body' };
    },
  },
} as never);

beforeEach(() => {
  hashes.length = 0;
});

async function send(role: string, method: string, path: string, body: string): Promise<void> {
  const response = await app.handle(
    new Request(`http://localhost${path}`, {
      method,
      headers: { authorization: `Bearer ${role}`, 'content-type': 'application/json', 'idempotency-key': 'key-1' },
      body,
    }),
  );
  expect(await response.json()).toMatchObject({ type: '/problems/idempotency-key-reused', status: 422 });
}

test('members of a reservation in another order are the same request, and another value is another one', async () => {
  const [from, until, later] = ['2126-07-01T10:00:00Z', '2126-07-01T12:00:00Z', '2126-07-01T13:00:00Z'];
  const hold = (body: string) => send('customer', 'POST', '/v1/reservations', body);
  await hold(`{"unit":"PL-1000","size":"S","from":"${from}","until":"${until}"}`);
  await hold(`{ "until": "${until}", "from": "${from}", "size": "\\u0053", "unit": "PL-1000" }`);
  await hold(`{"unit":"PL-1000","size":"S","from":"${from}","until":"${later}"}`);
  expect(hashes).toHaveLength(3);
  expect(hashes[1]).toBe(hashes[0] ?? '');
  expect(hashes[2]).not.toBe(hashes[0] ?? '');
});

test('members at every depth of a configuration may come in any order, and numbers in any notation', async () => {
  const { values } = defaultConfiguration(600);
  const reversed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(reversed);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([name, member]) => [name, reversed(member)]),
    );
  };
  const put = (body: string) => send('ops', 'PUT', '/v1/units/PL-1000/config', body);
  const body = { mode: 'queued', values };
  const texts = [
    JSON.stringify(body),
    JSON.stringify(reversed(body)),
    JSON.stringify(body).replace('"holdTtlS":600', '"holdTtlS":6e2'),
    JSON.stringify(body).replace('"holdTtlS":600', '"holdTtlS":600.0'),
  ];
  expect(new Set(texts).size).toBe(4);
  for (const text of texts) await put(text);
  await put(JSON.stringify({ ...body, values: { ...values, holdTtlS: 601 } }));
  const [first, ...others] = hashes;
  expect(others).toEqual([first ?? '', first ?? '', first ?? '', expect.not.stringMatching(first ?? '')]);
});

import { expect, test } from 'bun:test';
import { apiWithoutServices } from '../../support/api.ts';

test.each([
  ['/healthz', 200],
  ['/swagger', 200],
  ['/swagger/json', 200],
  ['/asyncapi', 200],
  ['/v1/units', 401],
  ['/nowhere', 404],
])('HEAD %s answers %d with the headers of GET and no body', async (path, status) => {
  const app = apiWithoutServices();
  const ask = (method: string) => app.handle(new Request(`http://localhost${path}`, { method }));
  const [got, head] = [await ask('GET'), await ask('HEAD')];
  expect([got.status, head.status]).toEqual([status, status]);
  expect(head.headers.get('content-type')).toBe(got.headers.get('content-type'));
  expect(await head.text()).toBe('');
  expect((await got.text()).length).toBeGreaterThan(0);
});

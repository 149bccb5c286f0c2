/** Operators over REST: units, API keys, pages of units; and the documentation of the API. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Client, fields, items, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform, PlatformProcess } from '../support/platform.ts';
import { registrationBody } from '../support/registration.ts';
import { fleet, operator, stopFleet } from './fleet.ts';

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

describe('operators', () => {
  test('register, import and list units; an existing name and invalid fields are refused', async () => {
    const registered = await ops.post('/v1/units', registrationBody('OPS-1'), { 'idempotency-key': 'register-ops-1' });
    expect(registered.status).toBe(201);
    expect(registered.body.credentials).toMatchObject({
      natsInboxPrefix: expect.any(String),
      unitKey: expect.any(String),
    });
    const repeated = await ops.post('/v1/units', registrationBody('OPS-1'), { 'idempotency-key': 'register-ops-1' });
    expect(repeated).toMatchObject({ status: 201, body: { name: 'OPS-1' } });
    expect(repeated.body.credentials).toBeUndefined();
    expect(fields(await ops.post('/v1/units', registrationBody('OPS-1')))).toEqual(['/name']);
    expect(fields(await ops.post('/v1/units', { ...registrationBody('OPS-2'), timeZone: 'Mars/Base' }))).toEqual([
      '/timeZone',
    ]);
    for (const address of ['nowhere', 'host:0', 'host:70000', 'host:80/path', 'a@host:80', ':80']) {
      expect(fields(await ops.post('/v1/units', { ...registrationBody('OPS-2'), address }))).toEqual(['/address']);
    }

    const lines = [
      JSON.stringify(registrationBody('OPS-3')),
      '{"broken',
      JSON.stringify({ ...registrationBody('OPS-4'), probe: 'smoke' }),
      JSON.stringify(registrationBody('OPS-5')),
    ];
    const imported = await fetch(`${platform.api}/v1/units/import`, {
      method: 'POST',
      keepalive: false,
      headers: { authorization: await platform.token('ops', 'operator'), 'content-type': 'application/x-ndjson' },
      body: lines.join('\n'),
    });
    const answers = (await imported.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers).toHaveLength(4);
    expect(answers[0]).toMatchObject({ name: 'OPS-3', credentials: {} });
    expect(answers[1]).toMatchObject({ name: null, problem: { status: 400 } });
    expect(answers[2]).toMatchObject({ name: 'OPS-4', problem: { errors: [{ path: '/probe' }] } });
    expect(answers[3]).toMatchObject({ name: 'OPS-5', credentials: {} });

    const seen = await eventually(async () => {
      const list = await ops.get('/v1/units?q=ops-&count=true');
      return list.body.total === 3 && items(list).length === 3 && list;
    });
    expect(items(seen).map(({ name }) => name)).toEqual(['OPS-1', 'OPS-3', 'OPS-5']);
    expect(items(seen)[0]).toMatchObject({ lockers: 1, state: 'never-seen', backlog: 0 });
  });

  test('an API key works until it is revoked', async () => {
    const made = await ops.post('/v1/api-keys', { name: 'export' });
    expect(made.status).toBe(201);
    const robot = new Client(platform.api, `Bearer ${text(made, 'key')}`);
    expect((await robot.get('/v1/units')).status).toBe(200);
    expect((await ops.send('DELETE', `/v1/api-keys/${text(made, 'id')}`)).status).toBe(204);
    expect((await robot.get('/v1/units')).status).toBe(401);
  });
});

interface DocumentedRoute {
  readonly summary?: string;
  readonly requestBody?: { readonly content?: object };
  readonly responses?: Record<string, { readonly content?: object }>;
  readonly security?: unknown;
}

describe('documentation', () => {
  test('every route has a summary, answers and problems, and the page loads no script from another host', async () => {
    const document = (await new Client(platform.api).get('/swagger/json')).body as {
      paths: Record<string, Record<string, DocumentedRoute>>;
    };
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) => ({ name: `${method} ${path}`, route })),
    );
    expect(routes.length).toBeGreaterThan(15);
    for (const { name, route } of routes) {
      expect([name, route.summary === undefined]).toEqual([name, false]);
      // The server refuses every other content type with 415.
      for (const type of Object.keys(route.requestBody?.content ?? {})) {
        expect([name, type]).toEqual([name, expect.stringMatching(/^application\/(json|x-ndjson)$/)]);
      }
      const statuses = Object.keys(route.responses ?? {});
      expect([name, statuses.some((status) => status.startsWith('2'))]).toEqual([name, true]);
      if (Array.isArray(route.security) && route.security.length > 0)
        expect([name, statuses]).toEqual([name, expect.arrayContaining(['401', '403', '503'])]);
    }
    const page = await (await fetch(`${platform.api}/swagger`, { keepalive: false })).text();
    expect(page).not.toMatch(/(src|href)="https?:/);
    const script = await fetch(`${platform.api}/swagger/scalar.js`, { keepalive: false });
    expect(script.headers.get('content-type')).toContain('javascript');
    expect((await script.text()).length).toBeGreaterThan(100_000);
  });

  test('the AsyncAPI document and its page are served without a token', async () => {
    const document = await new Client(platform.api).get('/asyncapi/json');
    expect(document).toMatchObject({ status: 200, body: { asyncapi: '3.0.0' } });
    const page = await fetch(`${platform.api}/asyncapi`, { keepalive: false });
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  });
});

describe('pages', () => {
  let apiOnly: PlatformProcess | undefined;

  // Pings and heartbeats change the values by which lists are sorted. Without a pinger the values stay, and differ between units.
  beforeAll(async () => {
    await platform.server.kill();
    apiOnly = platform.startServer({ ROLES: 'api' });
    const list = async () => JSON.stringify(items(await ops.get('/v1/units?limit=100')));
    let previous = '';
    await eventually(
      async () => {
        const current = await list();
        const isStill = current === previous && !current.includes('"state":"online"');
        previous = current;
        return isStill;
      },
      { timeoutMs: 60_000, intervalMs: 1_000 },
    );
  }, 120_000);

  afterAll(async () => {
    await apiOnly?.stop();
    platform.server.start();
    await eventually(async () => (await ops.get('/readyz')).status === 200, { timeoutMs: 60_000 });
  }, 60_000);

  test.each(['name', 'state', 'lastOnlineAt', 'lastResponseTimeMs'])('by %s join to the whole list', async (sort) => {
    const whole = items(await ops.get(`/v1/units?limit=100&sort=${sort}`));
    expect(new Set(whole.map(({ [sort]: value }) => value)).size).toBeGreaterThan(1);
    const paged: unknown[] = [];
    for (let cursor = ''; ; ) {
      const page = await ops.get(`/v1/units?limit=2&sort=${sort}${cursor === '' ? '' : `&cursor=${cursor}`}`);
      paged.push(...items(page));
      if (page.body.nextCursor === null) break;
      cursor = String(page.body.nextCursor);
    }
    expect(paged).toEqual(whole);
  });
});

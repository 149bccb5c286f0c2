/** The event log over REST: its filters, its pages and its exports. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { parse } from 'csv-parse/sync';
import { COLUMN_NAMES } from '../../server/api/events/event-export.ts';
import { type Answer, Client, fields, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { registrationBody } from '../support/registration.ts';
import { fleet, operator, stopFleet } from './fleet.ts';

let platform: Platform;
let ops: Client;
/** An operator whose name a spreadsheet would run. */
const HOSTILE = '=1+2';
const UNIT = 'GRID-1';

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
  const hostile = new Client(platform.api, await platform.token('ops', HOSTILE));
  const registered = await hostile.post(
    '/v1/units',
    registrationBody(UNIT, { displayName: 'A "quoted", name\r\n=2+3' }),
  );
  for (let n = 0; n < 5; n++) await hostile.post(`/v1/units/${UNIT}/credentials/rotate`);
  const position = registered.headers.get('lockfleet-position');
  expect((await ops.getOnceShown(`/v1/events?unit=${UNIT}&minPosition=${position}`)).status).toBe(200);
  await eventually(async () => items(await ops.get(`/v1/events?unit=${UNIT}`)).length >= 6);
}, 120_000);

afterAll(stopFleet);

async function exported(path: string, accept: string): Promise<Response> {
  const authorization = await platform.token('ops', 'operator');
  return fetch(`${platform.api}${path}`, { keepalive: false, headers: { authorization, accept } });
}

async function ndjson(path: string): Promise<Record<string, unknown>[]> {
  const response = await exported(path, 'application/x-ndjson');
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/x-ndjson']);
  const lines = (await response.text()).split('\n');
  expect(lines.pop()).toBe('');
  return lines.map((line) => JSON.parse(line));
}

async function csv(path: string): Promise<string[][]> {
  return parse(await (await exported(path, 'text/csv')).text());
}

const positions = (list: readonly Record<string, unknown>[]) => list.map(({ position }) => position);
const types = (answer: Answer) => new Set(items(answer).map(({ type }) => type));

describe('filters', () => {
  test('accept several types, as repeated parameters or separated by commas', async () => {
    for (const written of [
      'type=UnitRegistered&type=UnitCredentialsRotated',
      'type=UnitRegistered,UnitCredentialsRotated',
    ]) {
      const answer = await ops.get(`/v1/events?unit=${UNIT}&${written}`);
      expect(types(answer)).toEqual(new Set(['UnitRegistered', 'UnitCredentialsRotated']));
    }
    expect(types(await ops.get('/v1/events?type=UnitRegistered'))).toEqual(new Set(['UnitRegistered']));
  });

  test('find the events of an actor, and count them', async () => {
    const query = new URLSearchParams({ actor: `ops:${HOSTILE}`, unit: UNIT, count: 'true', limit: '2' });
    const answer = await ops.get(`/v1/events?${query}`);
    expect([items(answer).length, answer.body.total]).toEqual([2, 6]);
    expect((await ops.get('/v1/events?correlation=nobody&count=true')).body).toEqual({
      items: [],
      nextCursor: null,
      total: 0,
    });
  });

  test('that are invalid are refused with the parameter', async () => {
    expect(fields(await ops.get('/v1/events?sort=size'))).toEqual(['/query/sort']);
    expect(fields(await ops.get('/v1/events?from=yesterday'))).toEqual(['/query/from']);
    expect(fields(await ops.get('/v1/events?actr=me'))).toEqual(['/query/actr']);
    const { nextCursor } = (await ops.get('/v1/events?limit=1&sort=time')).body;
    expect(fields(await ops.get(`/v1/events?limit=1&sort=position&cursor=${nextCursor}`))).toEqual(['/query/cursor']);
    for (const type of ['A,'.repeat(20).concat('A'), 'A,,B', 'A'.repeat(101)]) {
      expect(fields(await ops.get(`/v1/events?type=${type}`))).toEqual(['/query/type']);
    }
  });
});

describe('exports', () => {
  test('have the same events as the pages, in the same order, with a cursor in each line', async () => {
    for (const sort of ['position', '-time']) {
      const page = await ops.get(`/v1/events?unit=${UNIT}&sort=${sort}&limit=100`);
      const lines = await ndjson(`/v1/events?unit=${UNIT}&sort=${sort}`);
      const listed = lines.map(({ cursor, ...event }) => {
        expect(cursor).toEqual(expect.any(String));
        return event;
      });
      expect(listed).toEqual(items(page));
    }
  });

  test('as CSV keep their columns, their quotes and their line breaks, and run nothing in a spreadsheet', async () => {
    const response = await exported(`/v1/events?unit=${UNIT}&sort=position`, 'text/csv');
    expect(response.headers.get('content-type')).toBe('text/csv; charset=utf-8; header=present');
    const text = await response.text();
    expect(text.endsWith('\r\n')).toBe(true);
    const [header = [], ...rows] = parse(text) as string[][];
    expect(header).toEqual(COLUMN_NAMES);
    const listed = items(await ops.get(`/v1/events?unit=${UNIT}&sort=position&limit=100`));
    const column = (name: string) => rows.map((row) => row[header.indexOf(name)]);
    expect(column('position')).toEqual(positions(listed) as string[]);
    expect(column('data').map((data) => JSON.parse(data ?? ''))).toEqual(listed.map(({ data }) => data));
    for (const cell of rows.flat()) expect(cell).not.toMatch(/^[=+@\t\r]/);
    expect(parse(text.replaceAll(`ops:${HOSTILE}`, HOSTILE)).length).toBe(rows.length + 1);
  });

  test('resume after any line, without a header and without events newer than the export', async () => {
    const whole = await ndjson(`/v1/events?unit=${UNIT}&sort=position`);
    const { cursor } = whole[2] ?? {};
    await ops.post(`/v1/units/${UNIT}/credentials/rotate`);
    await eventually(async () => items(await ops.get(`/v1/events?unit=${UNIT}`)).length > whole.length);
    const path = `/v1/events?unit=${UNIT}&sort=position&cursor=${cursor}`;
    expect(await ndjson(path)).toEqual(whole.slice(3));
    const response = await exported(path, 'text/csv');
    expect(response.headers.get('content-type')).toContain('header=absent');
    const rows = parse(await response.text()) as string[][];
    expect(rows.map(([position]) => position)).toEqual(positions(whole.slice(3)) as string[]);
    expect((await csv(`/v1/events?unit=${UNIT}`)).length).toBeGreaterThan(whole.length + 1);
  });

  test('are sent only to clients that accept them; other clients get a page', async () => {
    for (const accept of ['*/*', 'application/json', 'text/html', 'text/csv;q=0.1, application/json']) {
      const response = await exported('/v1/events?limit=1', accept);
      expect([accept, response.headers.get('content-type')]).toEqual([accept, 'application/json;charset=utf-8']);
      await response.text();
    }
    const refused = await exported('/v1/events?cursor=nonsense', 'text/csv');
    expect([refused.status, refused.headers.get('content-type')]).toEqual([422, 'application/problem+json']);
    await refused.text();
    const none = await fetch(`${platform.api}/v1/events`, { keepalive: false, headers: { accept: 'text/csv' } });
    expect(none.status).toBe(401);
    await none.text();
  });
});

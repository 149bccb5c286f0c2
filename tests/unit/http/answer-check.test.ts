/** A handler that drifts from its documentation is found by the first test that calls it. */

import { describe, expect, test } from 'bun:test';
import { Type } from '@sinclair/typebox';
import { createLog } from '../../../platform/observability/log.ts';
import { AnswerCheck } from '../../../server/http/answer-check.ts';
import { answer, operation } from '../../../server/http/operation.ts';
import { apiWithoutServices } from '../../support/api.ts';

const THING = Type.Object({
  id: Type.String(),
  parts: Type.Array(Type.Object({ size: Type.Union([Type.Literal('S'), Type.Literal('M')]) })),
  note: Type.Optional(Type.Union([Type.Object({ by: Type.String() }), Type.Null()])),
});
const GET_THING = operation({
  id: 'getThing',
  tag: 'Things',
  auth: 'ops',
  summary: 'Get a thing',
  answers: {
    200: answer('The thing.', THING, { id: 'a', parts: [{ size: 'S' }] }),
    203: { description: 'There is nothing to say.' },
    204: { description: 'There is nothing to say.' },
    202: { description: 'Lines.', contentType: 'application/x-ndjson', schema: Type.String() },
  },
  problems: ['not-found'],
});

const lines: string[] = [];
const log = createLog(
  (line) => lines.push(line),
  () => 0,
  {},
);
const check = new AnswerCheck(() => [{ method: 'GET', path: '/things/:id', hooks: { detail: GET_THING.detail } }], log);

function checked(response: Response, path = '/things/a', method = 'GET') {
  return check.check(new Request(`http://localhost${path}`, { method }), response);
}

function problem(status: number, name: string) {
  const document = { type: `/problems/${name}`, title: 'A title', status, detail: 'A detail.' };
  return new Response(JSON.stringify(document), { status, headers: { 'content-type': 'application/problem+json' } });
}

describe('a documented answer passes unchanged', () => {
  test.each([
    ['JSON', () => Response.json({ id: 'a', parts: [{ size: 'M' }], note: { by: 'ops:me' } })],
    ['no body', () => new Response(null, { status: 204 })],
    ['an empty body', () => new Response('', { status: 203 })],
    ['a stream', () => new Response('{}\n', { status: 202, headers: { 'content-type': 'application/x-ndjson' } })],
    ['a problem', () => problem(404, 'not-found')],
  ])('%s', async (_, make) => {
    const response = make();
    expect(await checked(response)).toBe(response);
    expect(await checked(response, '/things/a/')).toBe(response);
  });

  test('the problem of an unknown route', async () => {
    const response = problem(404, 'not-found');
    expect(await checked(response, '/elsewhere')).toBe(response);
    expect(await checked(response, '/things/a', 'DELETE')).toBe(response);
  });

  test('the refusal of a parameter `..`, whose path names no route any more', async () => {
    const response = problem(422, 'validation');
    expect(await checked(response, '/things/../parts')).toBe(response);
  });
});

describe('an answer that differs becomes a 500 that names the difference', () => {
  const json = (body: unknown, status = 200) => Response.json(body, { status });
  test.each([
    ['a wrong value', json({ id: 'a', parts: [{ size: 'XXL' }] }), '/parts/0/size must be one of "S", "M"'],
    ['a missing field', json({ parts: [] }), '/id is missing'],
    ['a further field', json({ id: 'a', parts: [], secret: 1 }), '/secret is not a known field'],
    [
      'a further field of an item',
      json({ id: 'a', parts: [{ size: 'S', weight: 1 }] }),
      '/parts/0/weight is not a known field',
    ],
    ['another status', json({}, 201), 'status 201 is not documented'],
    ['another problem', problem(409, 'not-yet'), 'status 409 is not documented'],
    ['a body where none is documented', json({}, 203), 'a body is not documented'],
    ['another content type', new Response('a'), 'the content type "" is not documented'],
    [
      'a problem that is no problem document',
      json({ error: 'no' }, 404),
      'the content type "application/json" is not documented',
    ],
  ])('%s', async (_, response, difference) => {
    const answered = await checked(response);
    expect(answered.status).toBe(500);
    const document = (await answered.json()) as { type: string; detail: string };
    expect(document.type).toBe('/problems/internal');
    expect(document.detail).toContain(difference);
    expect(lines.at(-1)).toContain('an answer differs from its documentation');
  });
});

describe('the API', () => {
  const broken = { nats: async () => [7 as unknown as string] };

  test('compares the answers of its handlers with their schemas', async () => {
    const response = await apiWithoutServices({ checks: broken }).handle(new Request('http://localhost/readyz'));
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({
      detail: expect.stringContaining('/problems/0/detail expected string'),
    });
  });

  test('does not compare answers in production', async () => {
    const app = apiWithoutServices({ checks: broken, checkAnswers: false });
    expect((await app.handle(new Request('http://localhost/readyz'))).status).toBe(503);
  });
});

/** Odd input at every route of the control API: each gets a problem document, and neither the process nor a unit is affected. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { connect } from 'node:net';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const NAME = 'RO-1000';
const SEED = 56;
const TOO_LARGE_BYTES = 128 * 1024;
const JWS_HEADER = Buffer.from('{"alg":"EdDSA"}').toString('base64url');

let platform: FieldPlatform;
let fleet: TestFleet;
let unit: EmulatedUnit;

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform, { seed: SEED, units: 1 });
  const found = fleet.units.get(NAME);
  if (found === undefined) throw new Error(`there is no ${NAME}: ${[...fleet.units.keys()]}`);
  unit = found;
  await eventually(() => fleet.readiness().connected === 1);
});
afterAll(async () => {
  await fleet.stop();
  await platform.stop();
});

async function ask(method: string, path: string, body?: Bun.BodyInit): Promise<{ status: number; type: string }> {
  const init = body === undefined ? { method } : { method, body };
  const response = await fetch(`${fleet.controlUrl}${path}`, { ...init, keepalive: false });
  const problem = (await response.json()) as { type: string; title: string; status: number; detail: string };
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  expect(problem).toMatchObject({ status: response.status, title: expect.any(String), detail: expect.any(String) });
  return { status: response.status, type: problem.type };
}

const ROUTES = [
  'faults',
  'walk-up',
  'redeem',
  'type-code',
  'reboot',
  'wipe',
  'lockers',
  'lockers/A/open',
  'lockers/A/close',
  'lockers/A/give-back',
] as const;

const VALIDATION = '/problems/validation';
const chunked = (bytes: number) =>
  new ReadableStream({
    start: (controller) => {
      for (let sent = 0; sent < bytes; sent += 1_024) controller.enqueue(new Uint8Array(1_024).fill(32));
      controller.close();
    },
  });
const BODIES: readonly { what: string; status: number; body: () => Bun.BodyInit }[] = [
  { what: 'no JSON', status: 400, body: () => '{"minutes":' },
  { what: 'bytes that are not UTF-8', status: 400, body: () => new Uint8Array([0x22, 0xff, 0x22]) },
  { what: 'null', status: 422, body: () => 'null' },
  { what: 'a list', status: 422, body: () => '[]' },
  { what: 'a text', status: 422, body: () => '"\\ud800"' },
  { what: 'a number beyond all bounds', status: 422, body: () => '1e999' },
  { what: 'members with odd names', status: 422, body: () => '{"__proto__":{},"\\ud800":1,"\\u0000":2,"":3}' },
  {
    what: 'members of wrong types',
    status: 422,
    body: () => '{"offline":1,"jammed":"A","minutes":[],"token":{},"code":9,"locker":null,"really":true}',
  },
  {
    what: 'a text that cannot be stored',
    status: 422,
    body: () => '{"token":"\\ud800","code":"\\u0000","locker":"\\u0000","minutes":1,"jammed":["\\ud800"]}',
  },
  { what: 'a very deep value', status: 422, body: () => `${'['.repeat(30_000)}${']'.repeat(30_000)}` },
  { what: 'a body that is too large', status: 413, body: () => ' '.repeat(TOO_LARGE_BYTES) },
  { what: 'a chunked body that is too large', status: 413, body: () => chunked(TOO_LARGE_BYTES) },
];

for (const route of ROUTES) {
  describe(`POST /units/{name}/${route}`, () => {
    for (const { what, status, body } of BODIES) {
      test(`refuses ${what}`, async () => {
        const { model, faults } = unit;
        expect(await ask('POST', `/units/${NAME}/${route}`, body())).toEqual({ status, type: VALIDATION });
        expect(unit.model.lockers).toBe(model.lockers);
        expect(unit.model.bootId).toBe(model.bootId);
        expect(unit.faults).toBe(faults);
      });
    }
  });
}

describe('odd names', () => {
  const names = [
    '%00',
    '%ff',
    '%F0%9F%94%91',
    '%ED%A0%80',
    '__proto__',
    'constructor',
    '%2e%2e%2f',
    'x'.repeat(8_000),
    `${NAME}%20`,
    `${NAME}%2Fwipe`,
    '%',
  ];
  for (const name of names) {
    test(`a unit ${name.slice(0, 20)} is not found`, async () => {
      expect(await ask('GET', `/units/${name}`)).toEqual({ status: 404, type: '/problems/not-found' });
      for (const route of ROUTES) expect((await ask('POST', `/units/${name}/${route}`, '{}')).status).toBe(404);
    });
    test(`a locker ${name.slice(0, 20)} is not found`, async () => {
      for (const action of ['open', 'close', 'give-back']) {
        expect((await ask('POST', `/units/${NAME}/lockers/${name}/${action}`)).status).toBe(404);
      }
      expect(await ask('DELETE', `/units/${NAME}/lockers/${name}`)).toEqual({
        status: 404,
        type: '/problems/not-found',
      });
    });
  }

  for (const [method, path] of [
    ['POST', '/readyz'],
    ['DELETE', '/units'],
    ['PUT', `/units/${NAME}`],
    ['PATCH', `/units/${NAME}/faults`],
    ['POST', `/units/${NAME}`],
    ['POST', '/units//faults'],
    ['GET', '//'],
    ['OPTIONS', '/'],
  ] as const) {
    test(`${method} ${path} is not found`, async () => {
      expect(await ask(method, path)).toEqual({ status: 404, type: '/problems/not-found' });
    });
  }
});

test('tokens that are none are refused', async () => {
  const part = (value: string) => Buffer.from(value).toString('base64url');
  const tokens = [
    '..',
    'a.b.c',
    `${JWS_HEADER}.${part('{}')}.`,
    `${JWS_HEADER}.${part('null')}.AAAA`,
    `${part('null')}.${part('null')}.${part('null')}`,
    `${part('{"alg":"none"}')}.${part('{"sub":"x"}')}.`,
    `${part('{"alg":"EdDSA","crit":["x"]}')}.${part('{}')}.AAAA`,
    '\u{1f511}.\u{1f511}.\u{1f511}',
    'x'.repeat(8_192),
  ];
  for (const token of tokens) {
    const answer = await ask('POST', `/units/${NAME}/redeem`, JSON.stringify({ token }));
    expect({ token, ...answer }).toEqual({ token, status: 409, type: '/problems/unit-rejected' });
  }
});

/** Sends bytes on a connection of its own, and closes it when the server has answered, or after the bytes. */
async function sendRaw(bytes: string, thenClose: boolean): Promise<void> {
  const { hostname, port } = new URL(fleet.controlUrl);
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = connect(Number(port), hostname, () => {
    socket.write(bytes, () => {
      if (thenClose) socket.destroy();
    });
  });
  socket.on('data', () => socket.destroy());
  // The server may reset the connection.
  socket.on('error', () => undefined);
  socket.on('close', () => resolve());
  await promise;
}

test('requests that are no HTTP, or break off, leave the control API as it was', async () => {
  const post = `POST /units/${NAME}/walk-up HTTP/1.1\r\nHost: x\r\n`;
  await sendRaw('\0\0\0\r\n\r\n', false);
  await sendRaw('GET http://[:: HTTP/1.1\r\nHost: x\r\n\r\n', false);
  await sendRaw('GET /units HTTP/1.1\r\nHost: \u{1f511}:99999\r\n\r\n', false);
  await sendRaw(`${post}Content-Length: -1\r\n\r\n{}`, false);
  await sendRaw(`${post}Content-Length: 100\r\n\r\n{"minutes"`, true);
  await sendRaw(`${post}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}`, false);
  await sendRaw(`${post}Transfer-Encoding: chunked\r\n\r\n5\r\n{"min`, true);
  const response = await fetch(`${fleet.controlUrl}/units/${NAME}`, { keepalive: false });
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ name: NAME });
  expect(unit.model.lockers.every(({ rental }) => rental === undefined)).toBe(true);
});

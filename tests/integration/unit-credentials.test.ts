/** Rotation and revocation over the API: what the operator gets, and what the unit notices. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { newUnitState } from '../../domain/unit/unit.ts';
import { readAccountJwt, signAccountJwt } from '../../platform/credentials/account-jwt.ts';
import { loadKeys, unitKey } from '../../platform/credentials/keys.ts';
import {
  accountLookupSubject,
  CLAIMS_UPDATE_SUBJECT,
  revokerCreds,
  unitsAccount,
} from '../../platform/credentials/nats-accounts.ts';
import { UnitRevocations } from '../../platform/credentials/revocations.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { api } from '../../platform/nats/jetstream.ts';
import { keyPairOf } from '../../platform/nats/nkeys.ts';
import { unitHeartbeatSubject } from '../../platform/nats/subjects.ts';
import { PostgresUnavailableError } from '../../platform/postgres/connection.ts';
import { freePort } from '../../platform/process/ports.ts';
import { COMMAND_TIMEOUT_MS } from '../../platform/units/unit-command-client.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { UnitCredentials } from '../../server/api/units/unit-credentials.ts';
import { Problem } from '../../server/http/problems.ts';
import { Client, fields, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { RawNats } from '../support/raw-nats.ts';
import { registrationBody } from '../support/registration.ts';

let platform: Platform;
let ops: Client;
let nats: Nats;

const rotate = (name: string) => `/v1/units/${name}/credentials/rotate`;
const revoke = (name: string) => `/v1/units/${name}/credentials/revoke`;
const newId = () => Bun.randomUUIDv7();
const refused = 'Authorization Violation';

interface Credentials {
  readonly unitKey: string;
  readonly natsUrl: string;
  readonly natsCreds: string;
  readonly natsInboxPrefix: string;
}

function credentialsIn(body: Record<string, unknown>): Credentials {
  // A copy: the comparison puts its matchers where the values were.
  expect(structuredClone(body.credentials)).toMatchObject({
    unitKey: expect.any(String),
    natsCreds: expect.stringContaining('NATS USER JWT'),
    natsInboxPrefix: expect.any(String),
    platformPublicKey: { kty: 'OKP' },
  });
  return body.credentials as Credentials;
}

async function register(name: string): Promise<Credentials> {
  const lockers = [{ id: 'A', size: 'M' as const }];
  const body = registrationBody(name, { probe: 'nats', commandChannel: 'nats', lockers });
  const answer = await ops.post('/v1/units', body);
  expect(answer.status).toBe(201);
  return credentialsIn(answer.body);
}

const connect = ({ natsCreds }: Credentials) => RawNats.connect(platform.nats.url, natsCreds);

/** What another process of the platform would decide with, one that is about to crash. */
function otherProcess(): UnitDecider {
  return new UnitDecider({
    store: new NatsEventStore(nats, newId, () => performance.now()),
    loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
    newId,
    clock: Date.now,
    random: Math.random,
    sleep: Bun.sleep,
    log: quietLog,
  });
}

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'credentials' });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'tests', log: quietLog });
}, 60_000);
afterAll(async () => {
  await nats.close();
  await platform.stop();
});

describe('rotation', () => {
  test('ends the connection of the old credentials within a second, and the new ones work', async () => {
    const old = await register('ROT-1');
    const unit = await connect(old);
    const answer = await ops.post(rotate('ROT-1'));
    expect(answer.status).toBe(200);
    expect(answer.body.name).toBe('ROT-1');
    expect(Number(answer.headers.get('lockfleet-position'))).toBeGreaterThan(0);
    await eventually(() => unit.closed, { timeoutMs: 1_000 });
    await expect(connect(old)).rejects.toThrow(refused);
    const fresh = credentialsIn(answer.body);
    const again = await connect(fresh);
    expect(await again.publish(unitHeartbeatSubject('ROT-1'), '{}')).toEqual([]);
    again.close();
  });

  test('increments the version of the unit key', async () => {
    const { fleetKey } = await loadKeys(platform.dataDir);
    const keyOf = (version: number) => Buffer.from(unitKey(fleetKey, 'ROT-2', version)).toString('base64');
    expect((await register('ROT-2')).unitKey).toBe(keyOf(1));
    expect(credentialsIn((await ops.post(rotate('ROT-2'))).body).unitKey).toBe(keyOf(2));
    expect(credentialsIn((await ops.post(rotate('ROT-2'))).body).unitKey).toBe(keyOf(3));
  });

  test('a repeat with the same key shows no credentials, and ends no connection', async () => {
    await register('ROT-3');
    const headers = { 'idempotency-key': 'rotate-once' };
    const unit = await connect(credentialsIn((await ops.post(rotate('ROT-3'), undefined, headers)).body));
    const repeated = await ops.post(rotate('ROT-3'), undefined, headers);
    expect(repeated).toMatchObject({ status: 200, body: { name: 'ROT-3' } });
    expect(repeated.body).not.toHaveProperty('credentials');
    expect(await unit.send('')).toEqual([]);
    expect(unit.closed).toBe(false);
    unit.close();
    // The same key for another unit is another request.
    await register('ROT-4');
    credentialsIn((await ops.post(rotate('ROT-4'), undefined, headers)).body);
  });

  test('20 concurrent rotations end the old connections, and the new credentials work', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `ROT-M${index}`);
    const units = await Promise.all(names.map(async (name) => connect(await register(name))));
    const answers = await Promise.all(names.map((name) => ops.post(rotate(name))));
    expect(answers.map(({ status }) => status)).toEqual(names.map(() => 200));
    await eventually(() => units.every(({ closed }) => closed), { timeoutMs: 1_000 });
    for (const answer of answers) (await connect(credentialsIn(answer.body))).close();
  });
});

describe('revocation', () => {
  test('ends the connection within a second, and the old credentials stay refused after a rotation', async () => {
    const credentials = await register('REV-1');
    const unit = await connect(credentials);
    const customer = new Client(platform.api, await platform.token('customer', 'rev'));
    const held = await customer.post('/v1/reservations', { unit: 'REV-1', size: 'M', ...period(0, 60) });
    const id = text(held, 'id');
    expect((await customer.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'p' })).status).toBe(200);

    const answer = await ops.post(revoke('REV-1'), { reason: 'stolen' });
    expect(answer).toMatchObject({ status: 200, body: { name: 'REV-1' } });
    await eventually(() => unit.closed, { timeoutMs: 1_000 });
    await expect(connect(credentials)).rejects.toThrow(refused);
    const askedAtMs = performance.now();
    const opened = await customer.post(`/v1/reservations/${id}/open`);
    expect(opened).toMatchObject({ status: 503, body: { type: '/problems/unit-offline' } });
    // The server reports at once that the unit has no subscription: the request does not wait for the timeout of a command.
    expect(performance.now() - askedAtMs).toBeLessThan(COMMAND_TIMEOUT_MS);

    const shown = { status: 200, body: { credentialsRevoked: true } };
    await eventually(async () => expect(await ops.get('/v1/units/REV-1')).toMatchObject(shown));
    const twice = await ops.post(revoke('REV-1'));
    expect(twice).toMatchObject({ status: 200, body: { name: 'REV-1' } });
    const fresh = credentialsIn((await ops.post(rotate('REV-1'))).body);
    (await connect(fresh)).close();
    await expect(connect(credentials)).rejects.toThrow(refused);
  });

  test('is applied to NATS by the reactor when the deciding process crashed before it did so', async () => {
    const [revoked, retired, rotated] = ['REV-2', 'REV-3', 'REV-4'] as const;
    const units = await Promise.all([revoked, retired, rotated].map(async (name) => connect(await register(name))));
    const decider = otherProcess();
    const meta = () => ({ commandId: newId(), actor: 'ops:crash', source: '/lockfleet/tests' });
    await decider.decide(revoked, 'registry', meta(), () => [{ type: 'UnitCredentialsRevoked', data: {} }]);
    await decider.decide(retired, 'registry', meta(), () => [{ type: 'UnitRetired', data: {} }]);
    await decider.decide(rotated, 'registry', meta(), () => [
      { type: 'UnitCredentialsRotated', data: { keyVersion: 2, natsUser: 'UANY' } },
    ]);
    await eventually(() => units.every(({ closed }) => closed));
  });
});

test('a lost list of revocations is restored from the events', async () => {
  const old = await register('LOST-1');
  expect((await ops.post(rotate('LOST-1'))).status).toBe(200);
  await withoutRevocations();
  (await connect(old)).close();
  await platform.server.stop();
  await api(nats, 'CONSUMER.DELETE.EVENTS.reactor-credentials');
  platform.server.start();
  await eventually(() => expect(connect(old)).rejects.toThrow(refused), { timeoutMs: 20_000 });
  await eventually(async () => (await ops.get('/v1/units')).status === 200, { timeoutMs: 20_000 });
});

/** Replaces the account of the units with the same account without revocations. */
async function withoutRevocations(): Promise<void> {
  const keys = await loadKeys(platform.dataDir);
  const operator = keyPairOf(keys.nats.operator);
  const system = await Nats.connect({
    url: platform.nats.url,
    creds: await revokerCreds(keys),
    name: 'tests',
    log: quietLog,
  });
  const { data } = await system.request(accountLookupSubject(unitsAccount(keys)), '', { timeoutMs: 2_000 });
  const claims = readAccountJwt(new TextDecoder().decode(data));
  const jwt = signAccountJwt({ ...claims, nats: { ...claims.nats, revocations: {} } }, operator, claims.iat + 1);
  await system.request(CLAIMS_UPDATE_SUBJECT, jwt, { timeoutMs: 2_000 });
  await system.close();
}

describe('an invalid request for a rotation or a revocation', () => {
  test.each([rotate, revoke])('is refused', async (path) => {
    expect(await ops.post(path('NOBODY'), {})).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
    expect(fields(await ops.post(path('a.b'), {}))).toEqual(['/params/name']);
    const customer = new Client(platform.api, await platform.token('customer', 'me'));
    expect((await customer.post(path('REV-1'), {})).status).toBe(403);
    expect((await new Client(platform.api).post(path('REV-1'), {})).status).toBe(401);
  });

  test('with a reason that is not a text, or with an unknown field, is refused', async () => {
    expect(fields(await ops.post(revoke('REV-1'), { reason: 7 }))).toEqual(['/reason']);
    expect(fields(await ops.post(revoke('REV-1'), { why: 'x' }))).toEqual(['/why']);
  });
});

describe('when the revocation at NATS fails', () => {
  async function credentialsWith(options: Partial<ConstructorParameters<typeof UnitRevocations>[0]>) {
    const keys = await loadKeys(platform.dataDir);
    const revocations = new UnitRevocations({
      url: platform.nats.url,
      keys,
      exclusively: (run) => run(),
      clock: Date.now,
      log: quietLog,
      ...options,
    });
    const decider = otherProcess();
    const credentials = new UnitCredentials({ decider, keys, natsUrl: platform.nats.url, revocations });
    return { credentials, decider, revocations };
  }
  const command = (name: string) => ({ name, commandId: newId(), actor: 'ops:tests' });

  async function problemOf(running: Promise<unknown>): Promise<Problem> {
    try {
      await running;
    } catch (error) {
      if (error instanceof Problem) return error;
      throw error;
    }
    throw new Error('no problem was thrown');
  }

  test('nothing is recorded while NATS cannot be reached', async () => {
    await register('AWAY-1');
    const { credentials, decider } = await credentialsWith({ url: `nats://127.0.0.1:${freePort()}` });
    await expect(credentials.rotate(command('AWAY-1'))).rejects.toThrow('no connection to NATS');
    await expect(credentials.revoke(command('AWAY-1'), undefined)).rejects.toThrow('no connection to NATS');
    expect((await decider.getState('AWAY-1')).registry).toMatchObject({ keyVersion: 1, credentialsRevoked: false });
  });

  test('a repeat applies a revocation that is already recorded', async () => {
    const unit = await connect(await register('AWAY-2'));
    let isLockUnavailable = true;
    const { credentials, decider, revocations } = await credentialsWith({
      exclusively: async (run) => {
        if (isLockUnavailable) throw new PostgresUnavailableError('no lock');
        return run();
      },
    });
    // Without its server, the platform's reactor cannot apply the revocation first.
    await platform.server.stop();
    const revoking = command('AWAY-2');
    const problem = await problemOf(credentials.revoke(revoking, undefined));
    expect(problem.document).toMatchObject({ status: 503, type: '/problems/unavailable' });
    expect(problem.retryAfterS).toBeGreaterThan(0);
    expect((await decider.getState('AWAY-2')).registry).toMatchObject({ credentialsRevoked: true });
    expect(unit.closed).toBe(false);
    isLockUnavailable = false;
    expect(await credentials.revoke(revoking, undefined)).toMatchObject({ status: 200, body: { name: 'AWAY-2' } });
    await eventually(() => unit.closed, { timeoutMs: 1_000 });
    await revocations.close();
  });

  test('nothing is recorded when the list of revocations is full', async () => {
    const { credentials, decider, revocations } = await credentialsWith({ maxRevocations: 1 });
    const problem = await problemOf(credentials.rotate(command('AWAY-1')));
    expect(problem.document.status).toBe(503);
    expect(problem.document.detail).toContain('1 is the most');
    expect(problem.retryAfterS).toBeUndefined();
    expect((await decider.getState('AWAY-1')).registry).toMatchObject({ keyVersion: 1 });
    await revocations.close();
  });
});

/** How a simulated fleet registers at a platform that is away, breaks off, refuses, or knows its units already. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { CredentialRecovery, MAX_ROTATIONS } from '../../device-sim/registration/credential-recovery.ts';
import { localPlatformApi, RegistrationRefusedError } from '../../device-sim/registration/platform-api.ts';
import { PlatformClient, PlatformUnavailableError } from '../../device-sim/registration/platform-client.ts';
import { loadConfig } from '../../platform/config/config.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import {
  type FieldPlatform,
  NAME_TAKEN,
  startFieldPlatform,
  startTestFleet,
  type TestFleet,
} from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { silentLog } from '../support/silent-log.ts';

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

const closing: (() => unknown)[] = [];
afterEach(async () => {
  platform.rotation = 'missing';
  platform.acceptsTokens = true;
  for (const close of closing.splice(0)) await close();
});

async function startFleet(...[at, changes]: Parameters<typeof startTestFleet>): Promise<TestFleet> {
  const fleet = await startTestFleet(at, changes);
  closing.push(fleet.stop);
  return fleet;
}

/** A platform that answers as a test says. @returns its base URL */
async function listen(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.unshift(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const rotations = () => platform.requests.filter((request) => request.endsWith('/credentials/rotate')).length;

describe('a platform that does not answer', () => {
  test('is waited for, and is no problem of a unit', async () => {
    const fleet = await startFleet({ url: 'http://127.0.0.1:9' }, { seed: 4 });
    expect(fleet.readiness()).toMatchObject({ ready: false, registered: 0, problems: [] });
  });

  test.each([
    ['import', 'ends'],
    ['import', 'stalls'],
    ['rotation', 'ends'],
  ])('in the middle of the answer to the %s, because the connection %s, is asked again', async (request, fault) => {
    const credentials = await platform.credentialsOf('PV-1000');
    const conflict = `${JSON.stringify({ name: 'PV-1000', problem: NAME_TAKEN })}\n`;
    const unit = { address: 'nowhere:1', probe: 'http', delivery: 'push', commandChannel: 'http', tags: ['simulated'] };
    const requests = { import: 0, rotation: 0 };
    const url = await listen((incoming, response) => {
      if (incoming.method !== 'POST') {
        response.end(JSON.stringify({ ...unit, lockerDetails: [{ id: 'A', size: 'S' }] }));
        return;
      }
      const asked = incoming.url === '/v1/units/import' ? 'import' : 'rotation';
      requests[asked] += 1;
      const body =
        asked === 'import' && request === 'rotation'
          ? conflict
          : `${JSON.stringify({ name: 'PV-1000', credentials })}\n`;
      const isBrokenOff = requests[asked] === 1 && asked === request;
      response.writeHead(200, { 'content-length': body.length });
      response.write(isBrokenOff ? body.slice(0, 20) : body, () => {
        if (!isBrokenOff) response.end();
        else if (fault === 'ends') incoming.socket.destroy();
      });
    });
    const fleet = await startFleet({ url }, { seed: 11, units: 1, importTimeoutMs: 2_000 });
    await eventually(() => fleet.readiness().registered === 1, { timeoutMs: 30_000 });
    expect(requests).toEqual(request === 'import' ? { import: 2, rotation: 0 } : { import: 2, rotation: 2 });
  });
});

test('a unit whose store was made with another number of lockers is registered with the lockers that it has', async () => {
  const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
  const first = await startTestFleet({ url: 'http://127.0.0.1:9' }, { storePath, seed: 16, units: 1, lockers: 2 });
  const [unit] = first.units.values();
  await first.stop();
  const fleet = await startFleet(platform, { storePath, seed: 16, units: 1, lockers: 4 });
  await eventually(() => fleet.readiness().registered === 1);
  const { lockers = [] } = platform.registrations.get(unit?.name ?? '') ?? {};
  expect(lockers).toEqual(unit?.model.lockers.map(({ id, size }) => ({ id, size })) ?? []);
  expect(lockers).toHaveLength(2);
});

describe('a platform that refuses for good', () => {
  test('the token ends the registration with an error that says what to do', async () => {
    platform.acceptsTokens = false;
    const refused = Promise.withResolvers<Error>();
    const fleet = await startFleet(platform, { seed: 12, onRegistrationRefused: refused.resolve });
    const error = await refused.promise;
    expect(error.message).toContain(`${platform.url} answered 401`);
    expect(error.message).toContain('DATA_DIR');
    expect(fleet.readiness()).toMatchObject({ ready: false, registered: 0 });
  });

  test('the import, as another program at its address does, ends the registration', async () => {
    const url = await listen((_, response) => response.writeHead(404).end('<h1>Not Found</h1>'));
    const refused = Promise.withResolvers<Error>();
    await startFleet({ url }, { seed: 13, onRegistrationRefused: refused.resolve });
    expect((await refused.promise).message).toMatch(/^The import at .* answered 404 <h1>.*set HTTP_HOST and HTTP_PORT/);
  });
});

describe('the token of the simulator', () => {
  const settings = async (env: Record<string, string>) => ({ DATA_DIR: await temporaryFolder('sim-token'), ...env });
  const apiOf = (env: Record<string, string>) => localPlatformApi(loadConfig(env), Date.now);

  test('is SIM_TOKEN, also where an identity provider signs the tokens', async () => {
    const env = await settings({ SIM_TOKEN: 'lf_key', AUTH_JWKS_URL: 'https://identity.example/keys' });
    expect(await apiOf(env).opsToken()).toBe('lf_key');
    expect(apiOf(env).tokenAdvice?.()).toContain('SIM_TOKEN');
  });

  test('is missing in a DATA_DIR without keys, in which the simulator makes none, and is there once the platform has made them', async () => {
    const env = await settings({});
    const api = apiOf(env);
    expect(await api.opsToken()).toBeUndefined();
    expect(api.tokenAdvice?.()).toContain(`DATA_DIR ${env.DATA_DIR} has no keys`);
    expect(existsSync(join(env.DATA_DIR, 'keys'))).toBe(false);
    await Bun.write(join(env.DATA_DIR, 'keys', 'jwt-secret'), 's'.repeat(64));
    expect((await api.opsToken())?.split('.')).toHaveLength(3);
  });
});

describe('a unit that the platform has registered, and whose credentials the simulator has lost', () => {
  async function lostUnit(seed: number, changes: { tags?: readonly string[] } = {}): Promise<string> {
    const first = await startTestFleet(platform, { seed, units: 1, lockers: 2 });
    await eventually(() => first.readiness().registered === 1);
    const [name = ''] = first.units.keys();
    await first.stop();
    const registration = platform.registrations.get(name);
    if (registration === undefined) throw new Error(`${name} is not registered`);
    platform.registrations.set(name, {
      ...registration,
      address: 'nowhere:1',
      lockers: [...registration.lockers, { id: 'X7', size: 'XL' }],
      ...changes,
    });
    return name;
  }

  test('gets new credentials and the lockers that are registered, and the platform gets its address', async () => {
    platform.rotation = 'works';
    const name = await lostUnit(6);
    const fleet = await startFleet(platform, { seed: 6, units: 1, lockers: 5 });
    await eventually(() => fleet.readiness().connected === 1);
    const unit = fleet.units.get(name);
    expect(unit?.model.lockers.map(({ id }) => id)).toEqual(['A', 'B', 'X7']);
    expect(platform.registrations.get(name)).toMatchObject({ address: unit?.address });
    expect(fleet.readiness().problems).toEqual([]);
  });

  test('is a problem of the fleet while the credentials cannot be rotated', async () => {
    const name = await lostUnit(5);
    const fleet = await startFleet(platform, { seed: 5, units: 2, log: silentLog });
    await eventually(() => fleet.readiness().problems.length === 1);
    expect(fleet.readiness()).toMatchObject({ registered: 1, ready: false });
    expect(fleet.readiness().problems[0]).toStartWith(
      `${name}: the platform has it registered, this simulator has lost`,
    );
  });

  test('is left alone when it is no simulated one', async () => {
    platform.rotation = 'works';
    await lostUnit(14, { tags: ['station'] });
    const before = rotations();
    const fleet = await startFleet(platform, { seed: 14, units: 1, log: silentLog });
    await eventually(() => fleet.readiness().problems.length === 1);
    expect(fleet.readiness().problems[0]).toContain('choose another seed');
    expect(rotations()).toBe(before);
  });
});

describe('rotations of a run are bounded', () => {
  const channels = { probe: 'http', delivery: 'push', commandChannel: 'http' } as const;
  const recoveryAt = (url: string) =>
    new CredentialRecovery({
      client: new PlatformClient({ url, opsToken: async () => 'ops' }, new AbortController().signal),
      channels,
      log: silentLog,
      onRecovered: () => undefined,
      onRefused: () => undefined,
    });

  test('a store of more units that was lost ends the registration before any rotation', async () => {
    const fleet = await startFleet({ url: 'http://127.0.0.1:9' }, { seed: 15, units: 1 });
    let requests = 0;
    const url = await listen((_, response) => {
      requests += 1;
      response.end();
    });
    const [unit] = fleet.units.values();
    if (unit === undefined) throw new Error('the fleet has no unit');
    const lost = Array.from({ length: MAX_ROTATIONS + 1 }, () => unit);
    const recovered = recoveryAt(url).recover(lost);
    await expect(recovered).rejects.toThrow(RegistrationRefusedError);
    await expect(recovered).rejects.toThrow(
      /has 501 units registered.*Restore the store \(DATA_DIR\), or choose another seed/,
    );
    expect(requests).toBe(0);
  });

  test('rotations whose answer is lost count', async () => {
    const fleet = await startFleet({ url: 'http://127.0.0.1:9' }, { seed: 15, units: 1 });
    const [unit] = fleet.units.values();
    if (unit === undefined) throw new Error('the fleet has no unit');
    let rotated = 0;
    const url = await listen((incoming, response) => {
      if (incoming.method === 'GET') {
        const lockerDetails = unit.model.lockers.map(({ id, size }) => ({ id, size }));
        response.end(JSON.stringify({ address: unit.address, ...channels, tags: ['simulated'], lockerDetails }));
        return;
      }
      rotated += 1;
      incoming.socket.destroy();
    });
    const recovery = recoveryAt(url);
    for (let attempt = 0; attempt < MAX_ROTATIONS; attempt += 1) {
      await expect(recovery.recover([unit])).rejects.toThrow(PlatformUnavailableError);
    }
    await expect(recovery.recover([unit])).rejects.toThrow(/after 500 rotations in this run/);
    expect(rotated).toBe(MAX_ROTATIONS);
  });
});

/** Revocations at NATS: they end connections, they survive restarts, and none is lost. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAccountJwt, revocationsIn, signAccountJwt } from '../../platform/credentials/account-jwt.ts';
import { loadKeys, type PlatformKeys } from '../../platform/credentials/keys.ts';
import {
  accountLookupSubject,
  natsServerConfig,
  revokerCreds,
  type UnitNatsCredentials,
  unitNatsCredentials,
  unitsAccount,
} from '../../platform/credentials/nats-accounts.ts';
import { MAX_REVOCATIONS, RevocationsFullError, UnitRevocations } from '../../platform/credentials/revocations.ts';
import { type EmbeddedNats, startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { Nats, NatsUnavailableError } from '../../platform/nats/connection.ts';
import { keyPairOf, newKeyPair } from '../../platform/nats/nkeys.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { withLock } from '../../platform/postgres/locks.ts';
import { freePort } from '../../platform/process/ports.ts';
import { atTheEnd, temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { RawNats } from '../support/raw-nats.ts';
import { freshDatabase, natsServerBinary } from '../support/services.ts';

/** A NATS server of this test that can be stopped and started again on the same folder. */
class OwnNats {
  readonly keys: PlatformKeys;
  readonly #dataDir: string;
  readonly #binary: string;
  readonly #port = freePort();
  #nats: EmbeddedNats | undefined;

  private constructor(keys: PlatformKeys, dataDir: string, binary: string) {
    this.keys = keys;
    this.#dataDir = dataDir;
    this.#binary = binary;
    atTheEnd(() => this.stop());
  }

  static async prepare(): Promise<OwnNats> {
    const dataDir = await temporaryFolder('revocations');
    const nats = new OwnNats(await loadKeys(dataDir), dataDir, await natsServerBinary());
    await mkdir(nats.accounts);
    return nats;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#port}`;
  }

  get accounts(): string {
    return join(this.#dataDir, 'accounts');
  }

  get unitsFile(): string {
    return join(this.accounts, `${unitsAccount(this.keys)}.jwt`);
  }

  async start(): Promise<void> {
    this.#nats = await startEmbeddedNats({
      dataDir: join(this.#dataDir, 'nats'),
      binary: this.#binary,
      config: await natsServerConfig(this.keys, this.accounts),
      port: this.#port,
      log: () => undefined,
    });
  }

  async stop(): Promise<void> {
    await this.#nats?.stop();
    this.#nats = undefined;
  }

  /** Kills the server with SIGKILL. Its supervisor starts it again, with the configuration of its first start. */
  async crash(): Promise<void> {
    const nats = this.#nats;
    const pid = nats?.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    await eventually(() => nats?.pid !== undefined && nats.pid !== pid);
  }

  /** The account of the units as the server has it. */
  async unitsClaims() {
    const nats = await Nats.connect({
      url: this.url,
      creds: await revokerCreds(this.keys),
      name: 'tests',
      log: quietLog,
    });
    try {
      const { data } = await nats.request(accountLookupSubject(unitsAccount(this.keys)), '', { timeoutMs: 2_000 });
      return readAccountJwt(new TextDecoder().decode(data));
    } finally {
      await nats.close();
    }
  }

  revocations(options: Partial<ConstructorParameters<typeof UnitRevocations>[0]> = {}): UnitRevocations {
    const exclusively = <T>(run: () => Promise<T>) => run();
    return new UnitRevocations({
      url: this.url,
      keys: this.keys,
      exclusively,
      clock: Date.now,
      log: quietLog,
      ...options,
    });
  }

  unit(name: string): Promise<UnitNatsCredentials> {
    return unitNatsCredentials(this.keys, name);
  }
}

const refused = 'Authorization Violation';
const someUser = () => newKeyPair('user').getPublicKey();

describe('a revoked user', () => {
  let nats: OwnNats;
  let revocations: UnitRevocations;

  beforeAll(async () => {
    nats = await OwnNats.prepare();
    await nats.start();
    revocations = nats.revocations();
  });
  afterAll(() => revocations.close());

  test('loses its connection within a second and cannot connect again; other users of the unit stay connected', async () => {
    const [ended, stays] = [await nats.unit('R-1'), await nats.unit('R-1')];
    const [cut, kept] = [await RawNats.connect(nats.url, ended.creds), await RawNats.connect(nats.url, stays.creds)];
    await revocations.ensure([ended.natsUser]);
    await eventually(() => cut.closed, { timeoutMs: 1_000 });
    await expect(RawNats.connect(nats.url, ended.creds)).rejects.toThrow(refused);
    expect(await kept.send('')).toEqual([]);
    expect(kept.closed).toBe(false);
    kept.close();
  });

  test('that is revoked again leaves the account unchanged', async () => {
    const user = someUser();
    await revocations.ensure([user]);
    const { iat, nats: account } = await nats.unitsClaims();
    await revocations.ensure([user]);
    expect(await nats.unitsClaims()).toMatchObject({ iat, nats: { revocations: account.revocations ?? {} } });
  });

  test('is refused after a restart and after a crash, also when it was revoked before the restart', async () => {
    const [before, between] = [await nats.unit('R-2'), await nats.unit('R-2')];
    await revocations.ensure([before.natsUser]);
    await nats.stop();
    await nats.start();
    await expect(RawNats.connect(nats.url, before.creds)).rejects.toThrow(refused);
    // This revocation falls into the second in which the account was preloaded; the restart after a crash preloads the same account.
    await revocations.ensure([between.natsUser]);
    await nats.crash();
    for (const { creds } of [before, between]) {
      await eventually(() => expect(RawNats.connect(nats.url, creds)).rejects.toThrow(refused));
    }
    (await RawNats.connect(nats.url, (await nats.unit('R-2')).creds)).close();
  });

  test('is kept when several processes revoke at once', async () => {
    const url = await freshDatabase();
    const pools = Array.from({ length: 4 }, () => new Postgres({ url, applicationName: 'tests' }));
    const processes = pools.map((pool) =>
      nats.revocations({ exclusively: (run) => withLock(pool, 'unit revocations', run) }),
    );
    const users = Array.from({ length: 80 }, someUser);
    await Promise.all(users.map((user, index) => processes[index % processes.length]?.ensure([user])));
    expect(Object.keys(revocationsIn(await nats.unitsClaims()))).toEqual(expect.arrayContaining(users));
    await Promise.all([...processes, ...pools].map((part) => part.close()));
  });

  test('is revoked when NATS is back, and until then the revocation fails as unavailable', async () => {
    const user = someUser();
    await nats.stop();
    await expect(revocations.ready()).rejects.toThrow(NatsUnavailableError);
    await expect(revocations.ensure([user])).rejects.toThrow(NatsUnavailableError);
    await nats.start();
    await eventually(() => revocations.ensure([user]));
    expect(revocationsIn(await nats.unitsClaims())).toHaveProperty(user);
  });
});

describe('the account of the units', () => {
  test('gets new limits at a restart, also when its stored version is from the future, and keeps its revocations', async () => {
    const nats = await OwnNats.prepare();
    const operator = keyPairOf(nats.keys.nats.operator);
    await nats.start();
    await nats.stop();
    const stored = readAccountJwt(await readFile(nats.unitsFile, 'utf8'));
    const old = await nats.unit('R-3');
    const tomorrowS = Math.floor(Date.now() / 1_000) + 86_400;
    const account = { limits: { ...stored.nats.limits, conn: -1 }, revocations: { [old.natsUser]: tomorrowS } };
    const withOldLimits = { ...stored, nats: { ...stored.nats, ...account } };
    await writeFile(nats.unitsFile, signAccountJwt(withOldLimits, operator, tomorrowS));
    await nats.start();
    expect((await nats.unitsClaims()).nats).toMatchObject({
      limits: { conn: 330_000 },
      revocations: account.revocations,
    });
    await expect(RawNats.connect(nats.url, old.creds)).rejects.toThrow(refused);
    await nats.stop();
  });

  test('is not replaced when its stored version cannot be read: the start fails', async () => {
    const nats = await OwnNats.prepare();
    await writeFile(nats.unitsFile, 'half of a');
    await expect(nats.start()).rejects.toThrow('cannot be read');
  });

  test('holds the maximum number of revocations, and a further one is refused', async () => {
    const nats = await OwnNats.prepare();
    await nats.start();
    const revocations = nats.revocations();
    await revocations.ensure(Array.from({ length: MAX_REVOCATIONS - 1 }, someUser));
    const last = await nats.unit('R-4');
    await revocations.ready();
    await revocations.ensure([last.natsUser]);
    await expect(RawNats.connect(nats.url, last.creds)).rejects.toThrow(refused);
    await expect(revocations.ready()).rejects.toThrow(RevocationsFullError);
    await expect(revocations.ensure([someUser()])).rejects.toThrow(RevocationsFullError);
    // A user that is already revoked needs no space in the list.
    await revocations.ensure([last.natsUser]);
    expect(Object.keys(revocationsIn(await nats.unitsClaims()))).toHaveLength(MAX_REVOCATIONS);
    await revocations.close();
    await nats.stop();
  });
});

describe('the credentials of the revoker', () => {
  test('allow nothing else in the system account', async () => {
    const nats = await OwnNats.prepare();
    await nats.start();
    const client = await RawNats.connect(nats.url, await revokerCreds(nats.keys));
    for (const subject of ['$SYS.REQ.SERVER.PING', '$SYS.REQ.CLAIMS.DELETE', '$SYS.REQ.ACCOUNT.X.CONNZ', 'x']) {
      expect(await client.publish(subject, '')).toEqual([expect.stringContaining('Permissions Violation')]);
    }
    expect(await client.subscribe('$SYS.>')).toEqual([expect.stringContaining('Permissions Violation')]);
    client.close();
    await nats.stop();
  });
});

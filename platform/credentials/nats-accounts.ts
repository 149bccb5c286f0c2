/**
 * NATS in operator mode: signed accounts and users, no anonymous one. `PLATFORM` has JetStream, `UNITS` has none: a unit
 * that names `evt.…` as the reply subject of its push reaches nothing, because that subject lives in the other account.
 */

import { encodeAccount, encodeOperator, encodeUser, fmtCreds, type KeyPair } from '@nats-io/jwt';
import { MAX_BATCH_BYTES } from '../../domain/batch.ts';
import { keyPairOf, newKeyPair } from '../nats/nkeys.ts';
import { unitCommandsSubject, unitHeartbeatSubject, unitPushSubject } from '../nats/subjects.ts';
import type { PlatformKeys } from './keys.ts';

const UNLIMITED = -1;
/** A batch and its protocol overhead. */
const MAX_UNIT_PAYLOAD_BYTES = MAX_BATCH_BYTES + 32 * 1024;
/** A unit's inbox and its command subject, with room for a reconnect. */
const MAX_UNIT_SUBSCRIPTIONS = 8;
const COMMAND_ANSWER_TTL_NS = 60 * 1_000_000_000;
const PUSHES = 'unit.*.*.*.events';
const COMMANDS = 'unit.*.*.*.commands';
const HEARTBEATS = 'unit.*.*.*.heartbeat';

const NATS_LIMITS = { data: UNLIMITED, payload: UNLIMITED, subs: UNLIMITED };
const ACCOUNT_LIMITS = {
  ...NATS_LIMITS,
  imports: UNLIMITED,
  exports: UNLIMITED,
  wildcards: true,
  conn: UNLIMITED,
  leaf: 0,
  disallow_bearer: true,
};
const JETSTREAM_LIMITS = { mem_storage: UNLIMITED, disk_storage: UNLIMITED, streams: UNLIMITED, consumer: UNLIMITED };

interface Accounts {
  readonly operator: KeyPair;
  readonly system: KeyPair;
  readonly platform: KeyPair;
  readonly units: KeyPair;
}

/** The text of a nats-server configuration with these accounts. Address, port and JetStream's folder are flags. */
export async function natsServerConfig(keys: PlatformKeys, resolverFolder: string): Promise<string> {
  const accounts = pairs(keys);
  const systemKey = accounts.system.getPublicKey();
  const operatorJwt = await encodeOperator('lockfleet', accounts.operator, { system_account: systemKey });
  const preload = [
    [systemKey, await accountJwt('SYS', accounts, accounts.system, {})],
    [accounts.platform.getPublicKey(), await platformJwt(accounts)],
    [accounts.units.getPublicKey(), await unitsJwt(accounts)],
  ];
  return [
    `operator: ${operatorJwt}`,
    `system_account: ${systemKey}`,
    `resolver: { type: full, dir: ${JSON.stringify(resolverFolder)} }`,
    'resolver_preload: {',
    ...preload.map(([account, jwt]) => `  ${account}: ${jwt}`),
    '}',
    // An acknowledged event survives a power cut.
    'jetstream: { sync_interval: always }',
    'max_payload: 1MB',
    '',
  ].join('\n');
}

/** A creds file for a process of the platform. */
export async function platformCreds(keys: PlatformKeys, name: string): Promise<string> {
  const user = newKeyPair('user');
  const platform = keyPairOf(keys.nats.platform);
  const jwt = await encodeUser(name, user, platform, NATS_LIMITS);
  return new TextDecoder().decode(fmtCreds(jwt, user));
}

export interface UnitNatsCredentials {
  /** The text of a creds file; it holds the only copy of the unit's seed. */
  readonly creds: string;
  readonly inboxPrefix: string;
  /** Public key of the user: what a revocation names. */
  readonly natsUser: string;
}

/** A user that may publish on its own two subjects, answer its own commands, and nothing else. */
export async function unitNatsCredentials(keys: PlatformKeys, unit: string): Promise<UnitNatsCredentials> {
  const user = newKeyPair('user');
  const units = keyPairOf(keys.nats.units);
  const inboxPrefix = `_INBOX_${unit}`;
  const jwt = await encodeUser(unit, user, units, {
    data: UNLIMITED,
    payload: MAX_UNIT_PAYLOAD_BYTES,
    subs: MAX_UNIT_SUBSCRIPTIONS,
    pub: { allow: [unitPushSubject(unit), unitHeartbeatSubject(unit)] },
    sub: { allow: [unitCommandsSubject(unit), `${inboxPrefix}.>`] },
    resp: { max: 1, ttl: COMMAND_ANSWER_TTL_NS },
    allowed_connection_types: ['STANDARD'],
  });
  return { creds: new TextDecoder().decode(fmtCreds(jwt, user)), inboxPrefix, natsUser: user.getPublicKey() };
}

function platformJwt(accounts: Accounts): Promise<string> {
  const units = accounts.units.getPublicKey();
  return accountJwt('PLATFORM', accounts, accounts.platform, {
    limits: JETSTREAM_LIMITS,
    exports: [{ name: 'pushes', subject: PUSHES, type: 'service', response_type: 'Singleton' }],
    imports: [
      { name: 'commands', subject: COMMANDS, account: units, type: 'service' },
      { name: 'heartbeats', subject: HEARTBEATS, account: units, type: 'stream' },
    ],
  });
}

function unitsJwt(accounts: Accounts): Promise<string> {
  const platform = accounts.platform.getPublicKey();
  return accountJwt('UNITS', accounts, accounts.units, {
    exports: [
      { name: 'commands', subject: COMMANDS, type: 'service', response_type: 'Singleton' },
      { name: 'heartbeats', subject: HEARTBEATS, type: 'stream' },
    ],
    imports: [{ name: 'pushes', subject: PUSHES, account: platform, type: 'service' }],
  });
}

function accountJwt(
  name: string,
  { operator }: Accounts,
  account: KeyPair,
  claims: NonNullable<Parameters<typeof encodeAccount>[2]>,
): Promise<string> {
  const limits = { ...ACCOUNT_LIMITS, ...claims.limits };
  return encodeAccount(name, account, { ...claims, limits }, { signer: operator });
}

function pairs({ nats }: PlatformKeys): Accounts {
  return {
    operator: keyPairOf(nats.operator),
    system: keyPairOf(nats.system),
    platform: keyPairOf(nats.platform),
    units: keyPairOf(nats.units),
  };
}

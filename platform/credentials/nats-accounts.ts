/**
 * The accounts and users of NATS, which runs in operator mode: every user is signed, and no user is anonymous.
 *
 * Processes of the platform are users of the account `PLATFORM`, which has JetStream. Units are users of the account `UNITS`,
 * which has none. Only pushes, heartbeats and commands cross between the accounts. A unit that names an event subject
 * (`evt.…`) as the reply subject of its push reaches no stream, because that subject exists in the other account only. Within the
 * account `UNITS`, a reply subject could also name the commands or the inbox of another unit: `commandsSubject` and
 * `unitNatsCredentials` say what prevents that.
 */

import { createHmac, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Account, encodeAccount, encodeOperator, encodeUser, fmtCreds, type KeyPair } from '@nats-io/jwt';
import { MAX_BATCH_BYTES } from '../../domain/unit-protocol/batch.ts';
import { keyPairOf, newKeyPair } from '../nats/nkeys.ts';
import { unitCommandsSubject, unitHeartbeatSubject, unitPushSubject } from '../nats/subjects.ts';
import { type AccountClaims, readAccountJwt, replacementJwt } from './account-jwt.ts';
import type { PlatformKeys } from './keys.ts';

const UNLIMITED = -1;
/** A batch and its protocol overhead. */
const MAX_UNIT_PAYLOAD_BYTES = MAX_BATCH_BYTES + 32 * 1024;
/** A unit subscribes to its inbox and its command subject; the rest is room for a reconnect. */
const MAX_UNIT_SUBSCRIPTIONS = 8;
const COMMAND_ANSWER_TTL_NS = 60 * 1_000_000_000;

/** The largest fleet that the platform is built for. */
const MAX_UNITS = 300_000;
/** Most connections of units. A tenth of the fleet may reconnect before the server has closed its broken connections. */
const MAX_UNIT_CONNECTIONS = MAX_UNITS + MAX_UNITS / 10;
/** Connections that are reserved for the platform: two for each of hundreds of processes, and those of operators. */
const PLATFORM_CONNECTIONS = 10_000;
/** The share of the server's open files that connections of units may take. The platform and the streams need the rest. */
const UNITS_SHARE_OF_FILES = 0.75;
/** Connections to the system account: one for each process that revokes credentials, and those of operators. */
const MAX_SYSTEM_CONNECTIONS = 1_000;

const PUSHES = 'unit.*.*.*.events';
const COMMANDS = 'unit.*.*.*.commands';
const HEARTBEATS = 'unit.*.*.*.heartbeat';
/** A subject of the system account. The server replaces the JWT of an account by the one that is sent to it. */
export const CLAIMS_UPDATE_SUBJECT = '$SYS.REQ.CLAIMS.UPDATE';
const INBOX_SECRET_BYTES = 16;
/** A subject without subscribers. The server drops messages that it maps to it. */
const DISCARD_SUBJECT = 'nowhere';

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
/** Payload and subscriptions bound each connection, even where the JWT of a user allows more. */
const UNITS_LIMITS = {
  // The stream `UNIT_INBOX` bounds the batches of a unit, and thereby the data that it can send.
  data: UNLIMITED,
  payload: MAX_UNIT_PAYLOAD_BYTES,
  subs: MAX_UNIT_SUBSCRIPTIONS,
  imports: 1,
  exports: 2,
};
const SYSTEM_LIMITS = { conn: MAX_SYSTEM_CONNECTIONS };
const JETSTREAM_LIMITS = { mem_storage: UNLIMITED, disk_storage: UNLIMITED, streams: UNLIMITED, consumer: UNLIMITED };

interface Accounts {
  readonly operator: KeyPair;
  readonly system: KeyPair;
  readonly platform: KeyPair;
  readonly units: KeyPair;
}

/**
 * The text of a nats-server configuration with these accounts. Address, port and the folder of JetStream are flags.
 *
 * The server stores accounts in `resolverFolder`, including revocations that were added while it ran. The configuration
 * replaces the stored accounts, so that new settings reach an old folder, and carries their revocations over.
 *
 * @param openFiles how many files the server may open; connections of units are bounded by a share of it, so that the
 *   platform can always connect
 * @throws Error when a stored account cannot be read
 */
export async function natsServerConfig(
  keys: PlatformKeys,
  resolverFolder: string,
  openFiles = Number.POSITIVE_INFINITY,
): Promise<string> {
  const unitConnections = Math.min(MAX_UNIT_CONNECTIONS, Math.floor(openFiles * UNITS_SHARE_OF_FILES));
  const accounts = keyPairsOf(keys);
  const systemKey = accounts.system.getPublicKey();
  const operatorJwt = await encodeOperator('lockfleet', accounts.operator, { system_account: systemKey });
  const commands = commandsSubject(keys);
  const preload = [
    [systemKey, await accountJwt('SYS', accounts, accounts.system, { limits: SYSTEM_LIMITS })],
    [accounts.platform.getPublicKey(), await platformJwt(accounts, commands)],
    [accounts.units.getPublicKey(), await unitsJwt(accounts, commands, unitConnections)],
  ] as const;
  const current = await Promise.all(
    preload.map(async ([account, jwt]) => [
      account,
      await withStoredRevocations(jwt, account, accounts, resolverFolder),
    ]),
  );
  return [
    `operator: ${operatorJwt}`,
    `system_account: ${systemKey}`,
    `resolver: { type: full, dir: ${JSON.stringify(resolverFolder)} }`,
    'resolver_preload: {',
    ...current.map(([account, jwt]) => `  ${account}: ${jwt}`),
    '}',
    // JetStream syncs before it acknowledges: an acknowledged event survives a power cut.
    'jetstream: { sync_interval: always }',
    'max_payload: 1MB',
    `max_connections: ${unitConnections + PLATFORM_CONNECTIONS}`,
    '',
  ].join('\n');
}

/** Adds the revocations of the stored account, if there is one, to the JWT of an account. */
async function withStoredRevocations(
  jwt: string,
  account: string,
  { operator }: Accounts,
  resolverFolder: string,
): Promise<string> {
  const file = join(resolverFolder, `${account}.jwt`);
  if (!existsSync(file)) return jwt;
  return replacementJwt(await storedClaims(file), readAccountJwt(jwt), operator);
}

/** The stored account has the revocations: a server that started without them would accept revoked credentials again. */
async function storedClaims(file: string): Promise<AccountClaims> {
  try {
    return readAccountJwt(await readFile(file, 'utf8'));
  } catch (error) {
    const why = `The NATS account in ${file} cannot be read.`;
    throw new Error(`${why} Restore the file, or delete it together with the JetStream consumer reactor-credentials.`, {
      cause: error,
    });
  }
}

/** A creds file for a process of the platform. */
export async function platformCreds(keys: PlatformKeys, name: string): Promise<string> {
  const user = newKeyPair('user');
  const platform = keyPairOf(keys.nats.platform);
  const jwt = await encodeUser(name, user, platform, NATS_LIMITS);
  return new TextDecoder().decode(fmtCreds(jwt, user));
}

/** A creds file of the system account whose user may do one thing: revoke unit credentials, in the account `UNITS`. */
export async function revokerCreds(keys: PlatformKeys): Promise<string> {
  const user = newKeyPair('user');
  const lookup = accountLookupSubject(unitsAccount(keys));
  const jwt = await encodeUser('revoker', user, keyPairOf(keys.nats.system), {
    ...NATS_LIMITS,
    pub: { allow: [CLAIMS_UPDATE_SUBJECT, lookup] },
    sub: { allow: ['_INBOX.>'] },
    allowed_connection_types: ['STANDARD'],
  });
  return new TextDecoder().decode(fmtCreds(jwt, user));
}

/** Public key of the account that units are users of. */
export function unitsAccount({ nats }: PlatformKeys): string {
  return keyPairOf(nats.units).getPublicKey();
}

export interface UnitNatsCredentials {
  /** The text of a creds file; it holds the only copy of the unit's seed. */
  readonly creds: string;
  readonly inboxPrefix: string;
  /** Public key of the user. A revocation names the user by it. */
  readonly natsUser: string;
}

/** A subject of the system account. The server answers a request on it with the JWT of the account. */
export function accountLookupSubject(account: string): string {
  return `$SYS.REQ.ACCOUNT.${account}.CLAIMS.LOOKUP`;
}

/** Makes a NATS user for a unit. It may publish pushes and heartbeats on its own subjects and answer its own commands. */
export async function unitNatsCredentials(keys: PlatformKeys, unit: string): Promise<UnitNatsCredentials> {
  const user = newKeyPair('user');
  const units = keyPairOf(keys.nats.units);
  // A unit that guessed the inbox of another could name it as the reply subject of a push, and the acknowledgement would go there.
  const inboxPrefix = `_INBOX_${randomBytes(INBOX_SECRET_BYTES).toString('hex')}`;
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

/**
 * The subject on which the platform's commands enter the account `UNITS`. The server maps it to the command subject of the
 * unit, and maps every other message to a command subject to `DISCARD_SUBJECT`, such as the acknowledgement of a push that named a
 * command subject as its reply subject. The subject holds a secret that no unit learns.
 */
function commandsSubject({ nats }: PlatformKeys): string {
  const secret = createHmac('sha256', nats.units).update('lockfleet commands subject').digest('hex');
  return `commands-${secret}.*.*.*`;
}

function platformJwt(accounts: Accounts, commands: string): Promise<string> {
  const units = accounts.units.getPublicKey();
  return accountJwt('PLATFORM', accounts, accounts.platform, {
    limits: JETSTREAM_LIMITS,
    exports: [{ name: 'pushes', subject: PUSHES, type: 'service', response_type: 'Singleton' }],
    imports: [
      { name: 'commands', subject: commands, local_subject: COMMANDS, account: units, type: 'service' },
      { name: 'heartbeats', subject: HEARTBEATS, account: units, type: 'stream' },
    ],
  });
}

function unitsJwt(accounts: Accounts, commands: string, connections: number): Promise<string> {
  const platform = accounts.platform.getPublicKey();
  return accountJwt('UNITS', accounts, accounts.units, {
    limits: { ...UNITS_LIMITS, conn: connections },
    exports: [
      { name: 'commands', subject: commands, type: 'service', response_type: 'Singleton' },
      { name: 'heartbeats', subject: HEARTBEATS, type: 'stream' },
    ],
    imports: [{ name: 'pushes', subject: PUSHES, account: platform, type: 'service' }],
    mappings: {
      [commands]: [{ subject: 'unit.$1.$2.$3.commands', weight: 100 }],
      [COMMANDS]: [{ subject: DISCARD_SUBJECT, weight: 100 }],
    },
  });
}

/** The settings of an account, with a field that the types of the package lack. */
type AccountSettings = Partial<Account> & {
  readonly mappings?: Readonly<Record<string, readonly { readonly subject: string; readonly weight: number }[]>>;
};

function accountJwt(name: string, { operator }: Accounts, account: KeyPair, claims: AccountSettings): Promise<string> {
  const limits = { ...ACCOUNT_LIMITS, ...claims.limits };
  return encodeAccount(name, account, { ...claims, limits }, { signer: operator });
}

function keyPairsOf({ nats }: PlatformKeys): Accounts {
  return {
    operator: keyPairOf(nats.operator),
    system: keyPairOf(nats.system),
    platform: keyPairOf(nats.platform),
    units: keyPairOf(nats.units),
  };
}

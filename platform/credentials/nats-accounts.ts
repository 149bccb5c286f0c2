/**
 * NATS in operator mode: signed accounts and users, no anonymous one. `PLATFORM` has JetStream, `UNITS` has none: a unit
 * that names `evt.…` as the reply subject of its push reaches nothing, because that subject lives in the other account. What
 * it could reach in its own is closed beside that: see `commandsSubject` and the prefix of inboxes.
 */

import { createHmac, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Account, encodeAccount, encodeOperator, encodeUser, fmtCreds, type KeyPair } from '@nats-io/jwt';
import { MAX_BATCH_BYTES } from '../../domain/unit-protocol/batch.ts';
import { keyPairOf, newKeyPair } from '../nats/nkeys.ts';
import { unitCommandsSubject, unitHeartbeatSubject, unitPushSubject } from '../nats/subjects.ts';
import { type AccountClaims, readAccountJwt, replacing } from './account-jwt.ts';
import type { PlatformKeys } from './keys.ts';

const UNLIMITED = -1;
/** A batch and its protocol overhead. */
const MAX_UNIT_PAYLOAD_BYTES = MAX_BATCH_BYTES + 32 * 1024;
/** A unit's inbox and its command subject, with room for a reconnect. */
const MAX_UNIT_SUBSCRIPTIONS = 8;
const COMMAND_ANSWER_TTL_NS = 60 * 1_000_000_000;

/** The fleet that the design speaks of. */
const MAX_UNITS = 300_000;
/** A unit whose network broke comes back before the server has given up its old connection: a tenth of them at once. */
const MAX_UNIT_CONNECTIONS = MAX_UNITS + MAX_UNITS / 10;
/** Room that units cannot take: two connections a process of ours, hundreds of processes, and those of operators. */
const PLATFORM_CONNECTIONS = 10_000;
/** What units leave of the files that the server may open: the platform's connections, and the streams. */
const UNITS_SHARE_OF_FILES = 0.75;
/** Connections to the system account: each process that revokes has one, and an operator. */
const MAX_SYSTEM_CONNECTIONS = 1_000;

const PUSHES = 'unit.*.*.*.events';
const COMMANDS = 'unit.*.*.*.commands';
const HEARTBEATS = 'unit.*.*.*.heartbeat';
/** Of the system account: takes a JWT in the place of the one that an account has. */
export const CLAIMS_UPDATE_SUBJECT = '$SYS.REQ.CLAIMS.UPDATE';
const INBOX_SECRET_BYTES = 16;
/** Nobody listens here. */
const NOWHERE = 'nowhere';

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
/** Payload and subscriptions are bounds of each connection, also of a user whose own JWT should say more. */
const UNITS_LIMITS = {
  // How much is sent in all is bounded by what is stored: `UNIT_INBOX` takes so many batches a unit.
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
 * The text of a nats-server configuration with these accounts. Address, port and JetStream's folder are flags.
 *
 * The server stores accounts in `resolverFolder`, with what was changed while it ran. What is preloaded takes the place of
 * what is stored, so that new settings reach an old folder, and carries its revocations over.
 *
 * `openFiles`: how many the server may open. That limit knows no accounts, so units are held below it.
 * @throws Error when a stored account cannot be read
 */
export async function natsServerConfig(
  keys: PlatformKeys,
  resolverFolder: string,
  openFiles = Number.POSITIVE_INFINITY,
): Promise<string> {
  const unitConnections = Math.min(MAX_UNIT_CONNECTIONS, Math.floor(openFiles * UNITS_SHARE_OF_FILES));
  const accounts = pairs(keys);
  const systemKey = accounts.system.getPublicKey();
  const operatorJwt = await encodeOperator('lockfleet', accounts.operator, { system_account: systemKey });
  const commands = commandsSubject(keys);
  const preload = [
    [systemKey, await accountJwt('SYS', accounts, accounts.system, { limits: SYSTEM_LIMITS })],
    [accounts.platform.getPublicKey(), await platformJwt(accounts, commands)],
    [accounts.units.getPublicKey(), await unitsJwt(accounts, commands, unitConnections)],
  ] as const;
  const current = await Promise.all(
    preload.map(async ([account, jwt]) => [account, await inPlaceOfStored(jwt, account, accounts, resolverFolder)]),
  );
  return [
    `operator: ${operatorJwt}`,
    `system_account: ${systemKey}`,
    `resolver: { type: full, dir: ${JSON.stringify(resolverFolder)} }`,
    'resolver_preload: {',
    ...current.map(([account, jwt]) => `  ${account}: ${jwt}`),
    '}',
    // An acknowledged event survives a power cut.
    'jetstream: { sync_interval: always }',
    'max_payload: 1MB',
    `max_connections: ${unitConnections + PLATFORM_CONNECTIONS}`,
    '',
  ].join('\n');
}

async function inPlaceOfStored(
  jwt: string,
  account: string,
  { operator }: Accounts,
  resolverFolder: string,
): Promise<string> {
  const file = join(resolverFolder, `${account}.jwt`);
  if (!existsSync(file)) return jwt;
  return replacing(await storedClaims(file), readAccountJwt(jwt), operator);
}

/** Without it nobody knows whose credentials have ended: going on would let them in again. */
async function storedClaims(file: string): Promise<AccountClaims> {
  try {
    return readAccountJwt(await readFile(file, 'utf8'));
  } catch (error) {
    const why = `the NATS account in ${file} cannot be read`;
    throw new Error(`${why}; restore the file, or delete it together with JetStream's consumer reactor-credentials`, {
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

/** A creds file for whoever ends unit credentials: a user of the system account that may change the units' account. */
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
  /** Public key of the user: what a revocation names. */
  readonly natsUser: string;
}

/** Of the system account: answers with the JWT that an account has. */
export function accountLookupSubject(account: string): string {
  return `$SYS.REQ.ACCOUNT.${account}.CLAIMS.LOOKUP`;
}

const unitsKeyPairs = new WeakMap<PlatformKeys, ReturnType<typeof keyPairOf>>();

/** Kept: it signs for every unit of an import. */
function unitsKeyPair(keys: PlatformKeys): ReturnType<typeof keyPairOf> {
  const pair = unitsKeyPairs.get(keys) ?? keyPairOf(keys.nats.units);
  unitsKeyPairs.set(keys, pair);
  return pair;
}

/** A user that may publish on its own two subjects, answer its own commands, and nothing else. */
export async function unitNatsCredentials(keys: PlatformKeys, unit: string): Promise<UnitNatsCredentials> {
  const user = newKeyPair('user');
  const units = unitsKeyPair(keys);
  // Whoever could guess it could have acknowledgements of its own pushes sent there, by naming it as their reply subject.
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
 * Where the platform's commands enter the units' account. From there they are mapped to the unit's own subject, and nothing
 * else is: whatever else is sent to `.commands`, such as the acknowledgement of a push that named it as its reply subject,
 * goes nowhere. It cannot be guessed, and no unit ever sees it.
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
      [COMMANDS]: [{ subject: NOWHERE, weight: 100 }],
    },
  });
}

/** With the field that the package's types do not know. */
type AccountSettings = Partial<Account> & {
  readonly mappings?: Readonly<Record<string, readonly { readonly subject: string; readonly weight: number }[]>>;
};

function accountJwt(name: string, { operator }: Accounts, account: KeyPair, claims: AccountSettings): Promise<string> {
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

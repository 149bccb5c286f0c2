/**
 * Revokes credentials of units, by adding their NATS users to the revocations of the account `UNITS`. nats-server then closes
 * the connections of these users and refuses new ones, also after a restart.
 *
 * How it works. A process reads the account's JWT from the server, adds the users, signs the JWT with the operator's key and
 * sends it back. The server has no expected version for that update, so that updates are serialised: `exclusively` holds a lock
 * across processes, and users that are revoked meanwhile wait and form the next update. The process then reads the JWT again,
 * and repeats the update when another update has overwritten it.
 *
 * Invariant. A revocation is permanent: the credentials of a unit do not expire, and a key is never issued twice. The list
 * therefore only grows, up to `MAX_REVOCATIONS`.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { Nats, NatsUnavailableError } from '../nats/connection.ts';
import { keyPairOf } from '../nats/nkeys.ts';
import type { Log } from '../observability/log.ts';
import { type AccountClaims, readAccountJwt, revocationsIn, withRevocations } from './account-jwt.ts';
import type { PlatformKeys } from './keys.ts';
import { accountLookupSubject, CLAIMS_UPDATE_SUBJECT, revokerCreds, unitsAccount } from './nats-accounts.ts';

/**
 * Most revoked users. Each takes 94 bytes of the account's JWT, which is one message of at most 1 MiB. When the list is full,
 * the API answers 503 to rotations and revocations and logs an error, until an operator gives the units a new account, with new
 * credentials for all units.
 */
export const MAX_REVOCATIONS = 10_000;
/** A revocation also covers credentials issued up to a day later, because clocks differ. A revoked key is never issued again. */
const CLOCK_TOLERANCE_S = 86_400;
const REQUEST_TIMEOUT_MS = 2_000;
const MAX_ATTEMPTS = 3;
/** Pause before another attempt: a change reaches the other servers of a NATS cluster a moment later. */
const RETRY_PAUSE_MS = 100;

/** `MAX_REVOCATIONS` users are revoked already, so that no further user can be revoked. Terminal. */
export class RevocationsFullError extends Error {
  override readonly name = 'RevocationsFullError';
}

export interface RevocationOptions {
  readonly url: string;
  readonly keys: PlatformKeys;
  /** Runs `run` under a lock across processes. */
  readonly exclusively: <T>(run: () => Promise<T>) => Promise<T>;
  readonly clock: () => number;
  readonly log: Log;
  /** @default MAX_REVOCATIONS */
  readonly maxRevocations?: number;
}

export class UnitRevocations {
  readonly #options: RevocationOptions;
  readonly #lookup: string;
  #nats: Nats | undefined;
  #connecting: Promise<Nats> | undefined;
  readonly #waiting = new Set<string>();
  #nextUpdate: Promise<void> | undefined;
  #running: Promise<unknown> = Promise.resolve();

  /** Connects to the system account when it is first needed. */
  constructor(options: RevocationOptions) {
    this.#options = options;
    this.#lookup = accountLookupSubject(unitsAccount(options.keys));
  }

  /**
   * Checks that a revocation would succeed now.
   * @throws NatsUnavailableError
   * @throws RevocationsFullError
   */
  async ready(): Promise<void> {
    this.#requireRoom(await this.#readClaims(await this.#connected()), 1);
  }

  /**
   * Revokes users. Resolves when none of them is connected or can connect. Idempotent.
   * @throws NatsUnavailableError the system account is out of reach
   * @throws RevocationsFullError
   */
  ensure(users: readonly string[]): Promise<void> {
    if (users.length === 0) return Promise.resolve();
    for (const user of users) this.#waiting.add(user);
    this.#nextUpdate ??= this.#scheduleUpdate();
    return this.#nextUpdate;
  }

  async close(): Promise<void> {
    await this.#running;
    await this.#connecting?.catch(() => undefined);
    await this.#nats?.close();
  }

  /** The next update: it collects users while the previous update runs. */
  #scheduleUpdate(): Promise<void> {
    const group = this.#running.then(async () => {
      const users = [...this.#waiting];
      this.#waiting.clear();
      this.#nextUpdate = undefined;
      await this.#revoke(users);
    });
    this.#running = group.catch(() => undefined);
    return group;
  }

  async #revoke(users: readonly string[]): Promise<void> {
    const nats = await this.#connected();
    if (missing(await this.#readClaims(nats), users).length === 0) return;
    await this.#options.exclusively(async () => {
      for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
        const claims = await this.#readClaims(nats);
        const added = missing(claims, users);
        if (added.length === 0) return;
        this.#requireRoom(claims, added.length);
        await this.#updateAccount(nats, claims, added);
        if (missing(await this.#readClaims(nats), users).length === 0) return;
        await sleep(RETRY_PAUSE_MS);
      }
      throw new NatsUnavailableError(
        `The NATS account of the units kept none of ${MAX_ATTEMPTS} updates, because another process overwrites it. Retry later.`,
      );
    });
  }

  async #readClaims(nats: Nats): Promise<AccountClaims> {
    const { data } = await nats.request(this.#lookup, '', { timeoutMs: REQUEST_TIMEOUT_MS });
    try {
      return readAccountJwt(new TextDecoder().decode(data));
    } catch (error) {
      throw new NatsUnavailableError(
        'NATS did not return the account of the units. Restart NATS with the configuration of this platform.',
        { cause: error },
      );
    }
  }

  async #updateAccount(nats: Nats, claims: AccountClaims, users: readonly string[]): Promise<void> {
    const { keys, clock } = this.#options;
    const nowMs = clock();
    const untilS = Math.floor(nowMs / 1_000) + CLOCK_TOLERANCE_S;
    const added = Object.fromEntries(users.map((user) => [user, untilS]));
    const jwt = withRevocations(claims, added, keyPairOf(keys.nats.operator), nowMs);
    const { data } = await nats.request(CLAIMS_UPDATE_SUBJECT, jwt, { timeoutMs: REQUEST_TIMEOUT_MS });
    const { error } = JSON.parse(new TextDecoder().decode(data)) as { error?: { description?: string } };
    if (error !== undefined)
      throw new NatsUnavailableError(`NATS refused the update of the units account: ${error.description}`);
  }

  #requireRoom(claims: AccountClaims, more: number): void {
    const { maxRevocations = MAX_REVOCATIONS } = this.#options;
    const count = Object.keys(revocationsIn(claims)).length;
    if (count + more <= maxRevocations) return;
    throw new RevocationsFullError(`${count} users of units are revoked, and ${maxRevocations} is the most`);
  }

  /** The connection to the system account, opened again when it was lost; concurrent callers share one attempt. */
  #connected(): Promise<Nats> {
    this.#connecting ??= this.#connectUnlessConnected().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connectUnlessConnected(): Promise<Nats> {
    if (this.#nats?.connected === true) return this.#nats;
    await this.#nats?.close();
    const { url, keys, log } = this.#options;
    this.#nats = await Nats.connect({ url, creds: await revokerCreds(keys), name: 'revoker', log });
    return this.#nats;
  }
}

function missing(claims: AccountClaims, users: readonly string[]): string[] {
  const revocations = revocationsIn(claims);
  return users.filter((user) => revocations[user] === undefined);
}

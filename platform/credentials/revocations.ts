/**
 * Ends credentials of units: their NATS users are put into the revocations of the units' account. nats-server then closes
 * their connections and lets them in no more, and keeps it over restarts.
 *
 * How it works. The account's JWT is read from the server, the users are added, and it is signed with the operator's key
 * and pushed. The server knows no "only if it is still what I read", so whoever changes it does so alone: `exclusively`
 * keeps other processes away, users that are named meanwhile wait and go together. Afterwards it is read again: when the
 * server has not kept it, because something else was pushed, it is done anew.
 *
 * What holds. A revocation is never taken back: the unit's users have no end, and their keys are used once. So the list only
 * grows, and it is bounded: see `MAX_REVOCATIONS`.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { Nats, NatsUnavailableError } from '../nats/connection.ts';
import { keyPairOf } from '../nats/nkeys.ts';
import type { Log } from '../observability/log.ts';
import { type AccountClaims, readAccountJwt, revocationsIn, withRevocations } from './account-jwt.ts';
import type { PlatformKeys } from './keys.ts';
import { accountLookupSubject, CLAIMS_UPDATE_SUBJECT, revokerCreds, unitsAccount } from './nats-accounts.ts';

/**
 * Users in the list. One costs 94 bytes of the account's JWT, which travels as one message of at most 1 MiB. Beyond it nothing
 * is rotated or revoked any more (503, and an error in the log) until the operator gives the units a new account, with new
 * credentials for all of them.
 */
export const MAX_REVOCATIONS = 10_000;
/** What was issued so much later is revoked too: clocks differ, and a key that was revoked is never used again. */
const CLOCK_TOLERANCE_S = 86_400;
const REQUEST_TIMEOUT_MS = 2_000;
const MAX_ATTEMPTS = 3;
/** Pause before another attempt: another server of a cluster hears of a change a moment later. */
const RETRY_PAUSE_MS = 100;

/** There are `MAX_REVOCATIONS`: no credentials can be ended any more. */
export class RevocationsFullError extends Error {
  override readonly name = 'RevocationsFullError';
}

export interface RevocationOptions {
  readonly url: string;
  readonly keys: PlatformKeys;
  /** Runs something while no other process does the same. */
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
  #dialling: Promise<Nats> | undefined;
  readonly #waiting = new Set<string>();
  #group: Promise<void> | undefined;
  #running: Promise<unknown> = Promise.resolve();

  /** Connects to the system account when it is first needed. */
  constructor(options: RevocationOptions) {
    this.#options = options;
    this.#lookup = accountLookupSubject(unitsAccount(options.keys));
  }

  /**
   * Whether something could be revoked now.
   * @throws NatsUnavailableError
   * @throws RevocationsFullError
   */
  async ready(): Promise<void> {
    this.#requireRoom(await this.#claims(await this.#connected()), 1);
  }

  /**
   * Returns when nobody is connected, or can connect, as one of these users.
   * @throws NatsUnavailableError the system account is out of reach
   * @throws RevocationsFullError
   */
  ensure(users: readonly string[]): Promise<void> {
    if (users.length === 0) return Promise.resolve();
    for (const user of users) this.#waiting.add(user);
    this.#group ??= this.#next();
    return this.#group;
  }

  async close(): Promise<void> {
    await this.#running;
    await this.#dialling?.catch(() => undefined);
    await this.#nats?.close();
  }

  /** The group that gathers while another one is under way. */
  #next(): Promise<void> {
    const group = this.#running.then(async () => {
      const users = [...this.#waiting];
      this.#waiting.clear();
      this.#group = undefined;
      await this.#revoke(users);
    });
    this.#running = group.catch(() => undefined);
    return group;
  }

  async #revoke(users: readonly string[]): Promise<void> {
    const nats = await this.#connected();
    if (missing(await this.#claims(nats), users).length === 0) return;
    await this.#options.exclusively(async () => {
      for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
        const claims = await this.#claims(nats);
        const added = missing(claims, users);
        if (added.length === 0) return;
        this.#requireRoom(claims, added.length);
        await this.#push(nats, claims, added);
        if (missing(await this.#claims(nats), users).length === 0) return;
        await sleep(RETRY_PAUSE_MS);
      }
      throw new NatsUnavailableError(`the account of the units was not changed in ${MAX_ATTEMPTS} attempts`);
    });
  }

  async #claims(nats: Nats): Promise<AccountClaims> {
    const { data } = await nats.request(this.#lookup, '', { timeoutMs: REQUEST_TIMEOUT_MS });
    try {
      return readAccountJwt(new TextDecoder().decode(data));
    } catch (error) {
      throw new NatsUnavailableError('NATS does not know the account of the units', { cause: error });
    }
  }

  async #push(nats: Nats, claims: AccountClaims, users: readonly string[]): Promise<void> {
    const { keys, clock } = this.#options;
    const nowMs = clock();
    const untilS = Math.floor(nowMs / 1_000) + CLOCK_TOLERANCE_S;
    const added = Object.fromEntries(users.map((user) => [user, untilS]));
    const jwt = withRevocations(claims, added, keyPairOf(keys.nats.operator), nowMs);
    const { data } = await nats.request(CLAIMS_UPDATE_SUBJECT, jwt, { timeoutMs: REQUEST_TIMEOUT_MS });
    const { error } = JSON.parse(new TextDecoder().decode(data)) as { error?: { description?: string } };
    if (error !== undefined) throw new NatsUnavailableError(`NATS refuses the account: ${error.description}`);
  }

  #requireRoom(claims: AccountClaims, more: number): void {
    const { maxRevocations = MAX_REVOCATIONS } = this.#options;
    const there = Object.keys(revocationsIn(claims)).length;
    if (there + more <= maxRevocations) return;
    throw new RevocationsFullError(`${there} users of units are revoked, and ${maxRevocations} is the most`);
  }

  /** The connection, made anew when it was lost; one attempt at a time. */
  #connected(): Promise<Nats> {
    this.#dialling ??= this.#dialUnlessConnected().finally(() => {
      this.#dialling = undefined;
    });
    return this.#dialling;
  }

  async #dialUnlessConnected(): Promise<Nats> {
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

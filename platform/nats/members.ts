/**
 * The key-value bucket `members`: who runs, by group. It is in memory, entries end by themselves, and a restart of NATS takes
 * it away.
 *
 * The key-value part of the `nats` package watches through a consumer, which a restart takes away too: its watch then stays
 * silent, without an error, also when the bucket is made again. But what is put into a bucket is delivered to subscriptions
 * as well; so a watch here is a plain subscription. It comes back with the connection, and hears heartbeats even while there
 * is no bucket.
 */

import type { Nats } from './connection.ts';
import { createStream, type DirectMessage, publishStored, readDirectly } from './jetstream.ts';

const STREAM = 'KV_members';
const OPERATION = 'KV-Operation';
/** Shorter than two heartbeats: what a member could not put in that time, it puts again. */
const PUT_TIMEOUT_MS = 1_000;
/** Entries that one direct read brings. */
const PAGE_ENTRIES = 256;

export interface MemberEntry {
  readonly id: string;
  readonly value: string;
  /** How much older it is than the newest entry that was read, by the clock of the server. */
  readonly ageMs: number;
}

export interface MemberWatcher {
  /** Somebody put this. */
  put(id: string, value: string): void;
  deleted(id: string): void;
}

export class MemberBucket {
  readonly #nats: Nats;
  readonly #group: string;

  /** `group`: a token of a subject, as are the ids of members. */
  constructor(nats: Nats, group: string) {
    this.#nats = nats;
    this.#group = group;
  }

  /** Creates the bucket where there is none. @throws JetStreamError, NatsUnavailableError */
  async ensure(): Promise<void> {
    await createStream(this.#nats, STREAM);
  }

  /** @throws JetStreamError, NatsUnavailableError */
  async put(id: string, value: string): Promise<void> {
    await publishStored(this.#nats, { subject: this.#key(id), payload: value, headers: {} }, PUT_TIMEOUT_MS);
  }

  /** @throws JetStreamError, NatsUnavailableError */
  async delete(id: string): Promise<void> {
    const headers = { [OPERATION]: 'DEL' };
    await publishStored(this.#nats, { subject: this.#key(id), payload: '', headers }, PUT_TIMEOUT_MS);
  }

  /** The entries of the group. @throws NatsUnavailableError */
  async read(): Promise<readonly MemberEntry[]> {
    const filter = this.#key('*');
    const found: DirectMessage[] = [];
    for (let sequence = 1, more = true; more; ) {
      const page = await readDirectly(this.#nats, STREAM, { sequence, filter, limit: PAGE_ENTRIES });
      found.push(...page.messages);
      more = page.more;
      sequence = (page.messages.at(-1)?.sequence ?? sequence) + 1;
    }
    const newestMs = Math.max(...found.map(({ timestampMs }) => timestampMs));
    return found
      .filter(({ header }) => header(OPERATION) === undefined)
      .map(({ subject, data, timestampMs }) => ({
        id: idOf(subject),
        value: new TextDecoder().decode(data),
        ageMs: newestMs - timestampMs,
      }));
  }

  /** Tells of everything that is put from now on, one's own too. Returns the way to stop that. */
  watch(watcher: MemberWatcher): () => void {
    return this.#nats.subscribe(this.#key('*'), ({ subject, data, header }) => {
      const id = idOf(subject);
      if (header(OPERATION) === undefined) watcher.put(id, new TextDecoder().decode(data));
      else watcher.deleted(id);
    });
  }

  #key(id: string): string {
    return `$KV.members.${this.#group}.${id}`;
  }
}

function idOf(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

/**
 * The key-value bucket `members`: the running processes of each group. It is in memory, its entries expire, and a restart of
 * NATS deletes it.
 *
 * The key-value API of the `nats` package watches a bucket through a consumer. A restart of NATS deletes that consumer, and the
 * watch then stays silent without an error, even when the bucket exists again. NATS also delivers the entries of a bucket to plain
 * subscriptions, so `watch` uses one: it survives a reconnection, and receives heartbeats while no bucket exists.
 */

import type { Nats } from './connection.ts';
import { ensureStream } from './ensure-streams.ts';
import { type DirectMessage, publishStored, readDirectly } from './jetstream.ts';

const STREAM = 'KV_members';
const OPERATION = 'KV-Operation';
/** At most one heartbeat interval: a member whose heartbeat was not stored in time sends the next one instead. */
const PUT_TIMEOUT_MS = 1_000;
/** Entries of one direct read. */
const PAGE_ENTRIES = 256;

export interface MemberEntry {
  readonly id: string;
  readonly value: string;
  /** Age relative to the newest entry of the read, by the clock of the NATS server. */
  readonly ageMs: number;
}

export interface MemberWatcher {
  /** Called when a member has stored its heartbeat. */
  put(id: string, value: string): void;
  /** Called when a member has left. */
  deleted(id: string): void;
}

export class MemberBucket {
  readonly #nats: Nats;
  readonly #group: string;
  readonly #replicas: number;

  /**
   * @param group a token of a subject, as the ids of members are
   * @param replicas the wanted number of copies of the bucket @default 1
   */
  constructor(nats: Nats, group: string, replicas = 1) {
    this.#nats = nats;
    this.#group = group;
    this.#replicas = replicas;
  }

  /** Creates the bucket, or merges its settings with those of an existing one. @throws JetStreamError, NatsUnavailableError */
  async ensure(): Promise<void> {
    await ensureStream(this.#nats, STREAM, this.#replicas);
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

  /** Calls the watcher for every later entry of the group, including those of this member. @returns a function that ends the watch */
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

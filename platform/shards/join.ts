/**
 * A member of a group that splits work by shard: it says every second that it is there, hears who else is, and knows what it
 * owns.
 *
 * - Every member deals by itself, from what it heard. Two owners of a shard for a moment, or none, are harmless to all that
 *   use this; so there is no lock and nobody to ask.
 * - It owns nothing until it has read the bucket once: a new process does not take everything because it has heard of nobody.
 * - A heartbeat that was stored is the proof of being in touch. Somebody's silence is judged only right after one, so that a
 *   NATS that is away or stands still takes shards from nobody: everyone keeps what it owns.
 * - After it was out of touch it does what it did at first: makes the bucket where that is lost, says that it is there, reads
 *   who else is. Those that it knew before have their whole time again: they may come back later than itself.
 */

import { UNIT_HASH_LENGTH, unitHash } from '../../domain/shard.ts';
import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import type { Nats } from '../nats/connection.ts';
import { MemberBucket } from '../nats/members.ts';
import { errorMessage } from '../observability/error-message.ts';
import type { Log } from '../observability/log.ts';
import { assignShards, type Member } from './deal.ts';
import { decodeHeartbeat, encodeHeartbeat } from './heartbeat.ts';
import { HEARTBEAT_MS, Membership } from './membership.ts';

/** What can stand between two dots of a subject. */
const TOKEN = /^[A-Za-z0-9_-]{1,64}$/;

export interface ShardOptions {
  readonly nats: Nats;
  /** Those that split the same work, such as `ingest`: letters, digits, `_`, `-`. */
  readonly group: string;
  /** Letters of the shards that the group deals, the same in all its members: 1 for 16 shards, 2 for 256. */
  readonly shardLetters: number;
  /** The prefixes that this process is fixed to (`SHARDS`); undefined: it takes what it is dealt. */
  readonly fixed: readonly string[] | undefined;
  /** New with every start: letters, digits, `_`, `-`. */
  readonly memberId: string;
  /** Milliseconds that only go forward. */
  readonly monotonic: () => number;
  /** Waits so long, or until the signal; must not throw. */
  readonly pause: (ms: number, until: AbortSignal) => Promise<unknown>;
  readonly log: Log;
  /** Leaves when it comes. */
  readonly signal: AbortSignal;
}

/** Called with all that is owned now, whenever that has changed; must not throw. */
export type ShardWatcher = (owned: readonly string[]) => void;

/**
 * Joins a group. What it owns shows once NATS has told who else is there.
 * @throws TypeError when the group or the id cannot stand in a key
 */
export function joinShards(options: ShardOptions): Shards {
  return new Shards(options);
}

export class Shards {
  readonly #options: ShardOptions;
  readonly #self: Member;
  readonly #shards: readonly string[];
  readonly #bucket: MemberBucket;
  readonly #others = new Membership();
  /** Those that left since the bucket was asked: its answer may be older. */
  readonly #leftMeanwhile = new Set<string>();
  readonly #watchers = new Set<ShardWatcher>();
  readonly #cleanups: readonly (() => void)[];
  readonly #running: Promise<void>;
  #owned: ReadonlySet<string> = new Set();
  #hasRead = false;
  #inTouch = false;
  #waking = new AbortController();
  #isLeaving = false;
  #left: Promise<void> | undefined;
  readonly #said = { outOfTouch: false, unowned: false, unreadable: false };

  constructor(options: ShardOptions) {
    const { nats, group, memberId, fixed, shardLetters, signal } = options;
    for (const token of [group, memberId]) {
      if (!TOKEN.test(token)) throw new TypeError(`"${token}" cannot stand in a key`);
    }
    this.#options = options;
    this.#self = { id: memberId, fixed };
    this.#shards = shardsOfLength(shardLetters);
    this.#bucket = new MemberBucket(nats, group);
    const stop = () => void this.leave();
    signal.addEventListener('abort', stop, { once: true });
    this.#cleanups = [
      () => signal.removeEventListener('abort', stop),
      this.#bucket.watch({
        put: (id, value) => this.#hear(id, value) && this.#deal(),
        deleted: (id) => this.#hearLeaving(id),
      }),
      nats.onConnection(() => this.#waking.abort()),
    ];
    this.#running = this.#run();
    if (signal.aborted) stop();
  }

  /** The shards that this member owns, in order. */
  owned(): readonly string[] {
    return [...this.#owned];
  }

  /** Whether it owns the shard of a unit. Takes the unit's name or, cheaper, the hash of that. */
  owns(unitOrHash: string): boolean {
    const hash = unitOrHash.length === UNIT_HASH_LENGTH ? unitOrHash : unitHash(unitOrHash);
    return this.#owned.has(hash.slice(0, this.#options.shardLetters));
  }

  /** Whether it owns this shard. */
  ownsShard(shard: string): boolean {
    return this.#owned.has(shard);
  }

  /** All that are there, as far as this member knows, itself first. */
  members(): readonly Member[] {
    return [this.#self, ...this.#others.members];
  }

  /** Returns the way to stop being told. */
  onChange(watcher: ShardWatcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Owns nothing from now on, and tells the others, who take over at once. Does not fail: they notice by themselves too. */
  leave(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  async #leave(): Promise<void> {
    const { memberId, log, group } = this.#options;
    this.#isLeaving = true;
    for (const cleanUp of this.#cleanups) cleanUp();
    this.#waking.abort();
    this.#own([]);
    // A heartbeat that is under way must not come after the last word.
    await this.#running;
    try {
      await this.#bucket.delete(memberId);
    } catch (error) {
      log.debug('left without a word', { group, reason: errorMessage(error) });
    }
  }

  async #run(): Promise<void> {
    const { monotonic, pause, log, group } = this.#options;
    while (!this.#isLeaving) {
      this.#waking = new AbortController();
      const { signal } = this.#waking;
      try {
        await this.#beat();
        this.#inTouch = !signal.aborted;
        this.#said.outOfTouch = false;
      } catch (error) {
        this.#inTouch = false;
        if (!this.#said.outOfTouch)
          log.warn('the members of a group are out of touch', { group, reason: errorMessage(error) });
        this.#said.outOfTouch = true;
      }
      // When somebody's time is up, a heartbeat shows whose silence it was.
      const untilExpiryMs = this.#inTouch ? Math.ceil(this.#others.nextExpiryMs - monotonic()) : HEARTBEAT_MS;
      await pause(Math.max(0, Math.min(HEARTBEAT_MS, untilExpiryMs)), signal);
      this.#inTouch &&= !signal.aborted;
    }
  }

  async #beat(): Promise<void> {
    const { monotonic, log, group } = this.#options;
    if (this.#inTouch) await this.#bucket.put(this.#self.id, encodeHeartbeat(this.#self.fixed));
    else await this.#getInTouch();
    const silent = this.#others.removeExpired(monotonic());
    if (silent.length > 0) log.info('members fell silent', { group, members: silent });
    if (silent.length > 0 || !this.#inTouch) this.#deal();
  }

  async #getInTouch(): Promise<void> {
    await this.#bucket.ensure();
    await this.#bucket.put(this.#self.id, encodeHeartbeat(this.#self.fixed));
    this.#leftMeanwhile.clear();
    const entries = await this.#bucket.read();
    this.#others.restartExpiry(this.#options.monotonic());
    for (const { id, value, ageMs } of entries) {
      if (!this.#leftMeanwhile.has(id)) this.#hear(id, value, ageMs);
    }
    this.#hasRead = true;
  }

  /** @returns whether that changed who is there */
  #hear(id: string, value: string, ageMs = 0): boolean {
    const { monotonic, memberId, log, group } = this.#options;
    if (id === memberId) return false;
    const heartbeat = decodeHeartbeat(value);
    if (heartbeat !== undefined)
      return this.#others.recordHeartbeat({ id, fixed: heartbeat.fixed }, monotonic() - ageMs);
    if (!this.#said.unreadable) log.warn('a heartbeat cannot be read', { group, member: id });
    this.#said.unreadable = true;
    return false;
  }

  #hearLeaving(id: string): void {
    if (!this.#inTouch) this.#leftMeanwhile.add(id);
    if (this.#others.remove(id)) this.#deal();
  }

  #deal(): void {
    if (!this.#hasRead || this.#isLeaving) return;
    const owners = assignShards(this.#shards, this.members());
    this.#own(this.#shards.filter((shard) => owners.get(shard) === this.#self.id));
    const unowned = this.#shards.filter((shard) => !owners.has(shard));
    if (unowned.length > 0 && !this.#said.unowned) {
      const { log, group } = this.#options;
      log.warn('nobody works on some shards: all members have SHARDS, and none has these', {
        group,
        shards: unowned.join(),
      });
    }
    this.#said.unowned = unowned.length > 0;
  }

  #own(owned: readonly string[]): void {
    if (owned.join() === this.owned().join()) return;
    this.#owned = new Set(owned);
    const { log, group } = this.#options;
    log.info('shards were dealt', {
      group,
      owned: owned.length,
      of: this.#shards.length,
      members: this.members().length,
    });
    for (const watcher of this.#watchers) watcher(owned);
  }
}

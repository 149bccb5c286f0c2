/**
 * The unit decider loads units, decides, and appends the events of each decision. Every event enters the store through it.
 *
 * How it works. The first decision on a unit loads its state (snapshot, then the tail of its subjects) and caches it; the cache
 * is bounded in bytes and evicts the least recently used unit. A follower reads the position of every commit in the store, and
 * marks the cached state of a unit as incomplete when another process appended to it; the next decision on that unit reads the
 * missing commits first. All other decisions on cached units read nothing. Decisions on one subject run one after another.
 * Decisions on different subjects, also of one unit, run at the same time and share the store's group commit, so a customer's
 * decision does not wait for what the unit reports.
 *
 * Invariants. A state folds every commit of a subject in order, and none twice. Each append states the expected version of its
 * subject (optimistic concurrency): when another process has appended since, the append fails, the decider reads the missing
 * commits and decides again. A follower that lags therefore costs retries, and never leads to a decision on a stale subject.
 */

import { LRUCache } from 'lru-cache';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { type DecisionContext, type EventDraft, envelop } from '../../domain/events/drafts.ts';
import { evolveUnit, lastSequenceOf, type UnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import {
  type Append,
  type AppendPriority,
  ConcurrencyError,
  type EventStore,
  MAX_COMMIT_EVENTS,
  MalformedCommitError,
  type Notice,
  type StoredMessage,
  StoreUnavailableError,
} from '../event-store/store.ts';
import type { Log } from '../observability/log.ts';
import { priorityOf, reportedCommandId } from './append-rules.ts';
import { CachedUnit, growthBy, type StateSize } from './cached-unit.ts';
import { DecisionTooLargeError, EndlessDecisionError } from './decision-errors.ts';
import { KeyedQueue, QueueFullError } from './keyed-queue.ts';
import { NOT_A_COMMIT, StoreFollower } from './store-follower.ts';

/** Estimated bytes of all cached states. Beyond it the cache evicts the least recently used unit. */
export const MAX_CACHED_STATE_BYTES = 512 * 1024 * 1024;
/** Attempts of one decision, the first included, before the decider gives up on optimistic concurrency. */
export const MAX_DECISION_ATTEMPTS = 12;
/** Pause after the n-th conflict: n times this, and up to as much again as jitter. */
const RETRY_PAUSE_MS = 4;
/** Most decisions on one subject that run or wait. */
export const MAX_DECISIONS_PER_SUBJECT = 1_000;
/** Chunks of one large decision. With `MAX_COMMIT_EVENTS` events each, it is far more than a unit has reservations. */
export const MAX_DECISION_CHUNKS = 200;

/** A state that has folded every commit of its unit up to the position `completeTo`. */
export interface UnitSnapshot {
  readonly state: UnitState;
  readonly completeTo: number;
}

/** What a load begins with. */
interface LoadBase extends UnitSnapshot {
  /** Position up to which reads of the store have completed the state. @default completeTo */
  readonly readTo?: number;
  /** The size of the state, when it is known. */
  readonly size?: StateSize;
}

export interface UnitDeciderOptions {
  readonly store: EventStore;
  /** Reads the last snapshot of a unit, or an empty state at position 0. */
  readonly loadSnapshot: (unit: string) => Promise<UnitSnapshot>;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  /** @default MAX_CACHED_STATE_BYTES */
  readonly maxCachedStateBytes?: number;
  readonly log: Log;
}

export interface DecisionMeta extends Pick<DecisionContext, 'actor' | 'commandId' | 'source' | 'correlationId'> {
  /** @default that of the aggregate, `priorityOf` */
  readonly priority?: AppendPriority;
}

export interface DecisionResult {
  /** The unit after the decision. */
  readonly state: UnitState;
  /** Position that a read model must have passed to show the outcome. */
  readonly sequence: number;
  /** False when the decision changed nothing, or when its command had been appended before. */
  readonly appended: boolean;
}

export class UnitDecider {
  readonly #options: UnitDeciderOptions;
  readonly #cache: LRUCache<string, CachedUnit>;
  /** Notices of units that are being loaded, in order of arrival. */
  readonly #noticesWhileLoading = new Map<string, Notice[]>();
  readonly #loads = new Map<string, Promise<CachedUnit>>();
  readonly #queue = new KeyedQueue(MAX_DECISIONS_PER_SUBJECT);
  /** Nothing is cached before the follower has begun. */
  readonly #follower: StoreFollower;

  constructor(options: UnitDeciderOptions) {
    this.#options = options;
    this.#follower = new StoreFollower({ ...options, onCommit: (notice) => this.noteCommit(notice) });
    this.#cache = new LRUCache({
      maxSize: options.maxCachedStateBytes ?? MAX_CACHED_STATE_BYTES,
      sizeCalculation: ({ bytes }) => bytes,
    });
  }

  /** Returns the state of a unit as this process knows it: commits of other processes may be missing. @throws StoreUnavailableError */
  async getState(unit: string): Promise<UnitState> {
    return (await this.#getCachedUnit(unit)).state;
  }

  /** The state with every commit that was acknowledged before the call, by any process. @throws StoreUnavailableError */
  async getLatestState(unit: string): Promise<UnitState> {
    const lastSequence = await this.#options.store.lastSequenceOf(unit);
    const cached = await this.#getCachedUnit(unit);
    const isRecent = ({ state }: CachedUnit) => lastSequenceOf(state) >= lastSequence;
    if (isRecent(cached)) return cached.state;
    return (await this.#readMissing(unit, cached, isRecent)).state;
  }

  /**
   * Decides on one subject of a unit and appends the events of the decision. A repeated command id is idempotent.
   *
   * @throws Refusal what `decision` throws
   * @throws DecisionTooLargeError when the decision has more than `MAX_COMMIT_EVENTS` events
   * @throws StoreUnavailableError when the store is out of reach, too many decisions wait for the subject, or other
   *   writers appended first at every attempt
   */
  decide(
    unit: string,
    aggregate: Aggregate,
    meta: DecisionMeta,
    decision: (state: UnitState) => readonly EventDraft[],
  ): Promise<DecisionResult> {
    return this.#decideAs(unit, aggregate, meta, () => meta.commandId, decision);
  }

  /**
   * Appends a decision that may be larger than a commit in chunks. `decision` returns the first of its events that stand alone,
   * at most `MAX_COMMIT_EVENTS`; it is made again on the state after each chunk until it returns none. Decisions of others on the
   * same subject take their turn between two chunks, and a failure keeps the chunks before it.
   *
   * The command id of a chunk is derived from the command and from the sequence that the chunk expects. So a repeated command
   * appends the remaining chunks, and none of them twice.
   *
   * @param meta.maxChunks @default MAX_DECISION_CHUNKS
   * @throws EndlessDecisionError when `decision` still returns events after `maxChunks` chunks; otherwise as `decide`
   */
  async decideInChunks(
    unit: string,
    aggregate: Aggregate,
    { maxChunks = MAX_DECISION_CHUNKS, ...meta }: DecisionMeta & { readonly maxChunks?: number },
    decision: (state: UnitState) => readonly EventDraft[],
  ): Promise<DecisionResult> {
    const commandId = (state: UnitState) => `${meta.commandId}/${state.sequences[aggregate]}`;
    let appended = false;
    for (let chunk = 0; chunk <= maxChunks; chunk += 1) {
      let isComplete = false;
      const result = await this.#decideAs(unit, aggregate, meta, commandId, (state) => {
        const drafts = decision(state);
        isComplete = drafts.length === 0;
        return chunk < maxChunks ? drafts : [];
      });
      appended ||= result.appended;
      if (isComplete) return { ...result, appended };
    }
    throw new EndlessDecisionError({ unit, aggregate, chunks: maxChunks });
  }

  /**
   * Appends events that a unit reported and that have their envelope already. The command id names the first and the last of
   * the events, so the rest of a batch, which is appended later, is another command. @throws as `decide`
   */
  appendReported(
    unit: string,
    aggregate: Aggregate,
    events: (state: UnitState) => readonly CloudEvent[],
  ): Promise<DecisionResult> {
    const priority = priorityOf(aggregate);
    return this.#runInOrder(unit, aggregate, () =>
      this.#decideWithRetries({ unit, aggregate, priority }, reportedCommandId, events),
    );
  }

  /**
   * Follows the store until `signal` aborts, so that cached states learn of other processes' commits. Reads on after errors.
   * @throws GapError when a commit that must exist is missing: data loss
   */
  followStore(signal: AbortSignal): Promise<void> {
    return this.#follower.follow(signal);
  }

  /**
   * Notes a commit that the caller has read from the store. A consumer may read it before the follower does, and before the
   * append is acknowledged to the process that made it; the next decision on the unit then folds it.
   */
  noteCommit(notice: Notice): void {
    this.#noticesWhileLoading.get(notice.unit)?.push(notice);
    this.#cache.peek(notice.unit)?.noteCommit(notice);
  }

  #decideAs(
    unit: string,
    aggregate: Aggregate,
    meta: DecisionMeta,
    commandIdOf: (state: UnitState) => string,
    decision: (state: UnitState) => readonly EventDraft[],
  ): Promise<DecisionResult> {
    const priority = meta.priority ?? priorityOf(aggregate);
    return this.#runInOrder(unit, aggregate, () =>
      this.#decideWithRetries(
        { unit, aggregate, priority },
        (_, state) => commandIdOf(state),
        (state) => {
          const time = toInstant(this.#options.clock());
          return envelop(decision(state), { unit, time, ...meta }, this.#options.newId);
        },
      ),
    );
  }

  async #decideWithRetries(
    target: Pick<Append, 'unit' | 'aggregate' | 'priority'>,
    commandIdOf: (events: readonly CloudEvent[], state: UnitState) => string,
    decide: (state: UnitState) => readonly CloudEvent[],
  ): Promise<DecisionResult> {
    const { store, sleep, random } = this.#options;
    const { unit, aggregate } = target;
    let reread: CachedUnit | undefined;
    for (let attempt = 1; attempt <= MAX_DECISION_ATTEMPTS; attempt += 1) {
      const cached = reread?.isMissingCommits === false ? reread : await this.#getCachedUnit(unit);
      const { state } = cached;
      const events = decide(state);
      if (events.length === 0) return { state, sequence: lastSequenceOf(state), appended: false };
      if (events.length > MAX_COMMIT_EVENTS) throw new DecisionTooLargeError({ unit, aggregate, events });
      const expectedSequence = state.sequences[aggregate];
      const commandId = commandIdOf(events, state);
      try {
        const { sequence, duplicate } = await store.append({ ...target, expectedSequence, commandId, events });
        if (duplicate) return { state: (await this.#readMissing(unit, cached)).state, sequence, appended: false };
        cached.fold({ aggregate, sequence, events });
        // An entry that was evicted or replaced during the append stays out of the cache.
        if (this.#cache.peek(unit) === cached) this.#putFirst(unit, cached);
        return { state: cached.state, sequence, appended: true };
      } catch (error) {
        if (!(error instanceof ConcurrencyError)) throw error;
        // The pause gives a lagging replica of the stream time to catch up. Its jitter keeps two writers from conflicting again.
        await sleep(RETRY_PAUSE_MS * attempt * (1 + random()));
        reread = await this.#readMissing(unit, cached, (read) => read.state.sequences[aggregate] > expectedSequence);
      }
    }
    throw new StoreUnavailableError(
      `Other writers appended to the ${aggregate} subject of unit ${unit} before each of ${MAX_DECISION_ATTEMPTS} attempts. Nothing was changed; retry.`,
    );
  }

  async #runInOrder<T>(unit: string, aggregate: Aggregate, task: () => Promise<T>): Promise<T> {
    try {
      return await this.#queue.run(`${unit}/${aggregate}`, task);
    } catch (error) {
      if (!(error instanceof QueueFullError)) throw error;
      throw new StoreUnavailableError(
        `${MAX_DECISIONS_PER_SUBJECT} decisions wait for the ${aggregate} subject of unit ${unit}. Nothing was changed; retry.`,
        { cause: error },
      );
    }
  }

  async #getCachedUnit(unit: string): Promise<CachedUnit> {
    const cached = this.#cache.get(unit);
    if (cached === undefined)
      return this.#loadOnce(
        unit,
        () => this.#options.loadSnapshot(unit),
        () => true,
      );
    return cached.isMissingCommits ? this.#readMissing(unit, cached) : cached;
  }

  /**
   * Replaces a cached unit by one that has folded the tail of its subjects.
   * @param isRecent whether a state has the commits of which the caller knows
   */
  #readMissing(
    unit: string,
    cached: CachedUnit,
    isRecent: (read: CachedUnit) => boolean = () => true,
  ): Promise<CachedUnit> {
    const present = this.#cache.peek(unit);
    this.#cache.delete(unit);
    // Another decision may have replaced `cached` meanwhile. The follower notes missing commits only in entries of the cache, so
    // its position says nothing of an entry that is no longer there.
    const base = present ?? cached;
    const followedTo = present === undefined ? 0 : (this.#follower.position ?? 0);
    const completeTo = Math.min(Math.max(base.completeTo, followedTo), base.firstMissing - 1);
    const { lastMissing } = base;
    // The follower's position says nothing of commits that an earlier read missed because its replica lagged.
    const readTo = Math.min(base.completeTo, base.firstMissing - 1);
    return this.#loadOnce(
      unit,
      async () => ({ state: base.state, completeTo, readTo, size: base.size }),
      (read) => lastSequenceOf(read.state) >= lastMissing && isRecent(read),
    );
  }

  async #loadOnce(
    unit: string,
    readBase: () => Promise<LoadBase>,
    isRecent: (read: CachedUnit) => boolean,
  ): Promise<CachedUnit> {
    const running = this.#loads.get(unit);
    if (running !== undefined) {
      const read = await running;
      // That load may have begun before the commits that this caller knows of.
      return isRecent(read) ? read : this.#readMissing(unit, read, isRecent);
    }
    const load = this.#load(unit, readBase, isRecent).finally(() => this.#loads.delete(unit));
    this.#loads.set(unit, load);
    return load;
  }

  async #load(
    unit: string,
    readBase: () => Promise<LoadBase>,
    isRecent: (read: CachedUnit) => boolean,
  ): Promise<CachedUnit> {
    const isFollowing = this.#follower.position !== undefined;
    // Collects what the follower reads between the read of the tail and the moment at which the unit is in the cache.
    const notices: Notice[] = [];
    this.#noticesWhileLoading.set(unit, notices);
    try {
      const base = await readBase();
      let loaded = await this.#foldTail(unit, base);
      for (const notice of notices) loaded.noteCommit(notice);
      if (loaded.isMissingCommits || !isRecent(loaded)) {
        // The state must have the commits of which the caller knows. A replica of the stream that lags may have answered without them.
        const readTo = base.readTo ?? loaded.completeTo;
        const completeTo = Math.min(loaded.completeTo, loaded.firstMissing - 1, readTo);
        const { state, size } = loaded;
        loaded = await this.#foldTail(unit, { state, size, completeTo }, 'leader');
        for (const notice of notices) loaded.noteCommit(notice);
      }
      if (isFollowing) this.#putFirst(unit, loaded);
      return loaded;
    } finally {
      this.#noticesWhileLoading.delete(unit);
    }
  }

  async #foldTail(
    unit: string,
    { state, completeTo, size }: LoadBase,
    from: 'any replica' | 'leader' = 'any replica',
  ): Promise<CachedUnit> {
    const { store } = this.#options;
    const tail = await (from === 'leader' ? store.tailFromLeader(unit, completeTo) : store.tail(unit, completeTo));
    let folded = state;
    let growthBytes = 0;
    for (const message of tail) {
      const { aggregate, sequence } = message;
      if (sequence <= folded.sequences[aggregate]) continue;
      const events = this.#eventsOf(message);
      folded = evolveUnit(folded, { aggregate, sequence, events });
      if (size !== undefined) growthBytes += growthBy(events);
    }
    const grown = size === undefined ? undefined : { from: size, bytes: growthBytes };
    return new CachedUnit(folded, tail.at(-1)?.sequence ?? completeTo, grown);
  }

  #eventsOf(message: StoredMessage): readonly CloudEvent[] {
    try {
      return message.events();
    } catch (error) {
      if (!(error instanceof MalformedCommitError)) throw error;
      this.#options.log.error(NOT_A_COMMIT, { sequence: message.sequence, unit: message.unit, error });
      return [];
    }
  }

  /** Makes a unit the most recently used one. `set` alone would keep the size that the cache noted when the entry was new. */
  #putFirst(unit: string, cached: CachedUnit): void {
    this.#cache.delete(unit);
    this.#cache.set(unit, cached);
  }
}

/**
 * Loads units, decides, and appends: the one way in which anything becomes an event.
 *
 * How it works. A unit's state is loaded once (snapshot, then the tail of its subjects) and kept. A follower hears of every
 * commit in the store; where it is one that others made, the kept state is behind, and reads what it lacks before its next
 * decision. A warm decision reads nothing. Decisions on one subject are taken one after another; those on different subjects
 * meet in the store's group commit, also those of one unit: what a customer wants never waits for what the unit reports.
 *
 * What holds. A state folds every subject in order, none twice. A decision is guarded by the sequence of its subject in the
 * state that it saw: when another process was faster, the append fails, the state is brought up to date from the store and
 * the decision is taken again. So a follower that lags makes decisions retry, it never makes them wrong; and what the
 * platform could not yet know about a device is settled when it arrives.
 */

import { versionOf } from '../../domain/events/catalogue.ts';
import {
  type Aggregate,
  type CloudEvent,
  type DecisionContext,
  type EventDraft,
  envelop,
} from '../../domain/events/envelope.ts';
import { evolveUnit, lastSequenceOf, type UnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import {
  type Append,
  type AppendPriority,
  ConcurrencyError,
  type EventStore,
  GapError,
  MalformedCommitError,
  type Notice,
  type StoredMessage,
  StoreUnavailableError,
} from '../event-store/store.ts';
import type { Log } from '../observability/log.ts';

/** Units whose state is kept in memory unless it is said otherwise; the one that was not used longest goes first. */
export const MAX_CACHED_UNITS = 20_000;
/** How often a decision is taken again after a lost race before it gives up. */
export const MAX_DECISION_ATTEMPTS = 12;
/** Pause before the n-th further attempt, times n, and as much again at random. */
const RETRY_PAUSE_MS = 4;
/** Decisions that may wait for one subject. */
export const MAX_WAITING_DECISIONS_PER_SUBJECT = 1_000;
/** Aggregates whose events thousands of units report at once. The store commits people's decisions before them. */
const BACKGROUND_AGGREGATES: ReadonlySet<Aggregate> = new Set(['device', 'connectivity', 'log']);
/** Pause before a follower that broke off begins again. */
const FOLLOW_RETRY_MS = 500;

/** The last snapshot of a unit: everything up to the sequence `completeTo` is in `state`. */
export interface UnitSnapshot {
  readonly state: UnitState;
  readonly completeTo: number;
}

export interface UnitDeciderOptions {
  readonly store: EventStore;
  /** Reads the last snapshot of a unit, an empty state when there is none. */
  readonly loadSnapshot: (unit: string) => Promise<UnitSnapshot>;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  /** @default MAX_CACHED_UNITS */
  readonly maxCachedUnits?: number;
  readonly log: Log;
}

export interface DecisionMeta extends Pick<DecisionContext, 'actor' | 'commandId' | 'source' | 'correlationId'> {
  /** @default 'background' when the aggregate is one of `BACKGROUND_AGGREGATES`, otherwise 'interactive' */
  readonly priority?: AppendPriority;
}

export interface DecisionResult {
  /** The unit after the decision. */
  readonly state: UnitState;
  /** The sequence that a reader must have passed to see the outcome. */
  readonly sequence: number;
  /** Whether anything was appended; a decision that changes nothing is answered all the same. */
  readonly appended: boolean;
}

interface Entry {
  state: UnitState;
  /** Everything up to here was folded when the state was loaded; what it lacks of what came later stands in `behind`. */
  readonly completeTo: number;
  /** The first and the last sequence that others appended since. */
  behind?: { readonly from: number; readonly to: number } | undefined;
}

export class UnitDecider {
  readonly #options: UnitDeciderOptions;
  readonly #entries = new Map<string, Entry>();
  /** What the follower told of units whose state is being read from the store, in order. */
  readonly #arrivals = new Map<string, Notice[]>();
  readonly #loads = new Map<string, Promise<Entry>>();
  readonly #queues = new Map<string, { tail: Promise<unknown>; waiting: number }>();
  /** The follower has passed everything up to here; undefined until it runs, and then nothing is kept. */
  #followedTo: number | undefined;

  constructor(options: UnitDeciderOptions) {
    this.#options = options;
  }

  /** The state of a unit, as fresh as this process knows it. @throws StoreUnavailableError */
  async getState(unit: string): Promise<UnitState> {
    return (await this.#entry(unit)).state;
  }

  /**
   * Decides on one subject of a unit and appends what the decision says.
   *
   * @throws Refusal what `decision` throws
   * @throws StoreUnavailableError the store is out of reach, or the race was lost too often
   */
  decide(
    unit: string,
    aggregate: Aggregate,
    meta: DecisionMeta,
    decision: (state: UnitState) => readonly EventDraft[],
  ): Promise<DecisionResult> {
    const priority = meta.priority ?? priorityOf(aggregate);
    const commandId = () => meta.commandId;
    return this.#inTurn(unit, aggregate, () =>
      this.#attempt({ unit, aggregate, priority }, commandId, (state) => {
        const time = toInstant(this.#options.clock());
        return envelop(decision(state), { unit, time, ...meta }, versionOf, this.#options.newId);
      }),
    );
  }

  /**
   * As `decide`, for what a unit reported: events that have their envelope. What identifies the commit is what stands in it,
   * from the first to the last event: the rest of a batch, recorded later, is another commit.
   */
  appendReported(
    unit: string,
    aggregate: Aggregate,
    events: (state: UnitState) => readonly CloudEvent[],
  ): Promise<DecisionResult> {
    const priority = priorityOf(aggregate);
    return this.#inTurn(unit, aggregate, () => this.#attempt({ unit, aggregate, priority }, idOfReported, events));
  }

  /** The state of a unit as the store has it now, whatever this process knew. @throws StoreUnavailableError */
  async getLatestState(unit: string): Promise<UnitState> {
    const entry = await this.#entry(unit);
    return (await this.#refresh(unit, entry)).state;
  }

  /**
   * Keeps the states up to date until `signal` ends it. Goes on by itself after the store was away; a gap in the store is
   * data loss and ends it with `GapError`.
   */
  async followStore(signal: AbortSignal): Promise<void> {
    const { store, log, sleep } = this.#options;
    const onAlarm = (alarm: object) => log.error('a message in EVENTS is no commit', { ...alarm });
    while (!signal.aborted) {
      try {
        this.#followedTo ??= await store.lastSequence();
        for await (const notice of store.watch({ after: this.#followedTo, signal, onAlarm })) this.#arrive(notice);
      } catch (error) {
        if (error instanceof GapError) throw error;
        log.warn('following EVENTS broke off', { error });
      }
      if (!signal.aborted) await sleep(FOLLOW_RETRY_MS);
    }
  }

  async #attempt(
    place: Pick<Append, 'unit' | 'aggregate' | 'priority'>,
    commandIdOf: (events: readonly CloudEvent[]) => string,
    decide: (state: UnitState) => readonly CloudEvent[],
  ): Promise<DecisionResult> {
    const { store, sleep, random } = this.#options;
    const { unit, aggregate } = place;
    for (let attempt = 1; attempt <= MAX_DECISION_ATTEMPTS; attempt += 1) {
      const entry = await this.#entry(unit);
      const { state } = entry;
      const events = decide(state);
      if (events.length === 0) return { state, sequence: lastSequenceOf(state), appended: false };
      const expectedSequence = state.sequences[aggregate];
      const commandId = commandIdOf(events);
      try {
        const { sequence, duplicate } = await store.append({ ...place, expectedSequence, commandId, events });
        if (duplicate) return { state: (await this.#refresh(unit, entry)).state, sequence, appended: false };
        entry.state = evolveUnit(entry.state, { aggregate, sequence, events });
        // The follower may have told of it first.
        if (entry.behind?.from === sequence && entry.behind.to === sequence) entry.behind = undefined;
        return { state: entry.state, sequence, appended: true };
      } catch (error) {
        if (!(error instanceof ConcurrencyError)) throw error;
        // A replica may be stale right after a lost race, and two writers must not meet in step.
        await sleep(RETRY_PAUSE_MS * attempt * (1 + random()));
        await this.#refresh(unit, entry);
      }
    }
    throw new StoreUnavailableError(`unit ${unit} is contended: ${MAX_DECISION_ATTEMPTS} races were lost`);
  }

  /** Runs the decisions on one subject one after another. */
  async #inTurn<T>(unit: string, aggregate: Aggregate, run: () => Promise<T>): Promise<T> {
    const subject = `${unit}/${aggregate}`;
    const queue = this.#queues.get(subject) ?? { tail: Promise.resolve(), waiting: 0 };
    if (queue.waiting >= MAX_WAITING_DECISIONS_PER_SUBJECT) {
      throw new StoreUnavailableError(`${MAX_WAITING_DECISIONS_PER_SUBJECT} decisions wait for ${subject}`);
    }
    this.#queues.set(subject, queue);
    queue.waiting += 1;
    const turn = queue.tail.then(run);
    queue.tail = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      queue.waiting -= 1;
      if (queue.waiting === 0) this.#queues.delete(subject);
    }
  }

  async #entry(unit: string): Promise<Entry> {
    const kept = this.#entries.get(unit);
    if (kept?.behind !== undefined) return this.#refresh(unit, kept);
    if (kept !== undefined) {
      this.#keep(unit, kept);
      return kept;
    }
    return this.#loadOnce(unit, () => this.#options.loadSnapshot(unit));
  }

  /** Brings a state up to date from the store. */
  #refresh(unit: string, entry: Entry): Promise<Entry> {
    const kept = this.#entries.get(unit);
    this.#entries.delete(unit);
    // Somebody may have replaced the entry meanwhile: the follower tells only of what those that are kept lack.
    const base = kept ?? entry;
    const followedTo = kept === undefined ? 0 : (this.#followedTo ?? 0);
    const completeTo = Math.min(Math.max(base.completeTo, followedTo), missingFrom(base) - 1);
    return this.#loadOnce(unit, async () => ({ state: base.state, completeTo }));
  }

  #loadOnce(unit: string, base: () => Promise<UnitSnapshot>): Promise<Entry> {
    const running = this.#loads.get(unit);
    if (running !== undefined) return running;
    const load = this.#load(unit, base).finally(() => this.#loads.delete(unit));
    this.#loads.set(unit, load);
    return load;
  }

  async #load(unit: string, base: () => Promise<UnitSnapshot>): Promise<Entry> {
    const following = this.#followedTo !== undefined;
    // What the follower tells between the read and the first use would be missed without a place to wait in.
    const arrivals: Notice[] = [];
    this.#arrivals.set(unit, arrivals);
    try {
      const { state, completeTo } = await base();
      let entry = await this.#read(unit, state, completeTo);
      for (const notice of arrivals) note(entry, notice);
      // What came meanwhile was told before the state was asked for, as far as anybody can know.
      const known = Math.min(entry.completeTo, missingFrom(entry) - 1);
      if (entry.behind !== undefined) entry = await this.#read(unit, entry.state, known);
      for (const notice of arrivals) note(entry, notice);
      if (following) this.#keep(unit, entry);
      return entry;
    } finally {
      this.#arrivals.delete(unit);
    }
  }

  async #read(unit: string, state: UnitState, completeTo: number): Promise<Entry> {
    const tail = await this.#options.store.tail(unit, completeTo);
    return {
      state: tail.reduce((next, message) => this.#fold(next, message), state),
      completeTo: tail.at(-1)?.sequence ?? completeTo,
    };
  }

  /**
   * Tells of a commit that somebody has heard of in another way, perhaps before the follower, and before the answer to whoever
   * appended it: the next decision on its unit knows it.
   */
  noteCommit(notice: Notice): void {
    this.#arrivals.get(notice.unit)?.push(notice);
    const entry = this.#entries.get(notice.unit);
    if (entry !== undefined) note(entry, notice);
  }

  #arrive(notice: Notice): void {
    this.#followedTo = notice.sequence;
    this.noteCommit(notice);
  }

  #fold(state: UnitState, message: StoredMessage): UnitState {
    const { aggregate, sequence } = message;
    if (sequence <= state.sequences[aggregate]) return state;
    try {
      return evolveUnit(state, { aggregate, sequence, events: message.events() });
    } catch (error) {
      if (!(error instanceof MalformedCommitError)) throw error;
      this.#options.log.error('a message in EVENTS is no commit', { sequence, unit: message.unit, error });
      return evolveUnit(state, { aggregate, sequence, events: [] });
    }
  }

  /** Puts a state where the most recently used stand, and lets the least recently used go. */
  #keep(unit: string, entry: Entry): void {
    this.#entries.delete(unit);
    this.#entries.set(unit, entry);
    if (this.#entries.size <= (this.#options.maxCachedUnits ?? MAX_CACHED_UNITS)) return;
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      return;
    }
  }
}

/** Notes that a state lacks a commit, unless it has it. */
function note(entry: Entry, { aggregate, sequence }: Notice): void {
  if (sequence <= entry.state.sequences[aggregate]) return;
  const { from = sequence, to = sequence } = entry.behind ?? {};
  entry.behind = { from: Math.min(from, sequence), to: Math.max(to, sequence) };
}

/** The first commit that a state is known to lack. */
function missingFrom({ behind }: Entry): number {
  return behind?.from ?? Number.POSITIVE_INFINITY;
}

/** `UNIT/EPOCH/FIRST-LAST` */
function idOfReported(events: readonly CloudEvent[]): string {
  return `${events[0]?.id}-${events.at(-1)?.unitseq}`;
}

function priorityOf(aggregate: Aggregate): AppendPriority {
  return BACKGROUND_AGGREGATES.has(aggregate) ? 'background' : 'interactive';
}

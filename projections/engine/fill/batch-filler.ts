/**
 * Fills a run from its intake, batch by batch: one that serves, or one that cannot be folded (`builder.ts`).
 *
 * How it works. Messages are taken in the order of the store, as many as make up to `MAX_BATCH_EVENTS`, and applied in one
 * transaction that also moves the checkpoints of the lanes that they touch. Everything up to the last message taken has
 * then been seen, so a touched lane moves to there; the idle lanes move with them when many are touched, or else follow
 * together, at most every 100 ms.
 *
 * What holds. A checkpoint moves only from exactly the value that was read, before anything is written: whoever comes
 * second to a lane fails, rolls back, reads where the lanes are and goes on from there. So every commit is applied exactly
 * once, whoever owns the lane, and however often a transaction is repeated because nobody knows whether it was committed.
 */

import type { StoredMessage } from '../../../platform/event-store/store.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { isRetryable, RetryBackoff, type RetryPolicy } from '../../../platform/retry/retry-policy.ts';
import { FencedError, type Positions } from '../checkpoints/checkpoints.ts';
import type { MessageQueue } from '../consume/message-queue.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import { applyUnitByUnit, isPoison, MAX_BATCH_EVENTS, type Poison, park } from '../parking/parking.ts';
import type { Commit, Projection } from '../projection.ts';
import type { Run } from '../runs/runs.ts';
import { LanePositions } from './lane-positions.ts';

/** Messages that one transaction may pass, applied or not. */
const MAX_BATCH_MESSAGES = 8_000;
const IDLE_ADVANCE_MS = 100;
/** Where this share of the lanes is touched, moving the others too costs less than whoever waits for them. */
const MANY_LANES_SHARE = 0.25;
/**
 * Pause from the end of one transaction to the beginning of the next, so that under load more commits share a sync of the
 * disk; what comes after a quiet moment waits for nothing.
 */
const GATHER_MS = 20;
/** So many messages are enough for a transaction at once. */
const ENOUGH_MESSAGES = 500;
/** After a lost race for a lane: the winner shall get on. */
export const FENCED_PAUSE_MS = 20;

export interface FillOptions extends RetryPolicy {
  readonly postgres: Postgres;
  readonly projection: Projection;
  readonly run: Run;
  /** Those that this process fills, at least one. */
  readonly lanes: readonly number[];
  /** Milliseconds of a clock that nobody sets. */
  readonly clock: () => number;
  /** Called for each message that is no commit, by each that meets it. */
  readonly onMalformed: (message: StoredMessage, reason: string) => void;
  /** Called after each transaction, and with no events when a filler reads its checkpoints anew. Must not throw. */
  readonly onApplied: (run: Run, applied: Applied) => void;
}

/** What a committed transaction changed. */
export interface Applied {
  readonly events: number;
  /** The units whose events were applied; `all` when it is not known which: a transaction of this or another process may count. */
  readonly units: ReadonlySet<string> | 'all';
}

/** Fills some lanes of a run. */
export interface Filler {
  readonly run: Run;
  /** Everything up to here is applied in all of its lanes. */
  readonly lowestPosition: number;
  /** Something after this is applied in none of them. */
  readonly highestPosition: number;
  /** Reads where the lanes are. @returns false when the run has ended */
  reload(): Promise<boolean>;
  /** Applies what comes, until the process stops or the run ends. @throws what does not pass by itself */
  fillFrom(intake: MessageQueue): Promise<void>;
}

/** A run that is being built met an event that it cannot apply. Nobody is served by it yet, and another run goes on. */
export class RebuildFailedError extends Error {
  override readonly name = 'RebuildFailedError';
}

/** What one transaction does. */
interface Batch {
  readonly commits: readonly Commit[];
  /** Of the commits. */
  readonly events: number;
  /** Parked units that it passes over. */
  readonly skipped: readonly string[];
  readonly lanes: ReadonlySet<number>;
  /** Everything up to here is applied with it. */
  readonly upTo: number;
  /** Messages of the intake that it covers. */
  readonly taken: number;
}

export class BatchFiller implements Filler {
  readonly #options: FillOptions;
  readonly #retries: RetryBackoff;
  readonly #lanes: LanePositions;
  #isStale = false;
  #idleAdvancedAtMs = Number.NEGATIVE_INFINITY;
  #appliedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: FillOptions) {
    const { postgres, run, lanes } = options;
    this.#options = options;
    this.#lanes = new LanePositions(postgres, run, lanes);
    this.#retries = new RetryBackoff(`applying to ${run.schema}`, options);
  }

  get run(): Run {
    return this.#options.run;
  }

  get lowestPosition(): number {
    return this.#lanes.lowestPosition;
  }

  get highestPosition(): number {
    return this.#lanes.highestPosition;
  }

  async reload(): Promise<boolean> {
    const { run, onApplied } = this.#options;
    const hasLanes = await this.#lanes.reload();
    onApplied(run, { events: 0, units: 'all' });
    return hasLanes;
  }

  async fillFrom(intake: MessageQueue): Promise<void> {
    const { signal, sleep } = this.#options;
    const wake = () => intake.notify();
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!signal.aborted) {
        if (intake.messages.length === 0) await this.#wait(intake);
        if (signal.aborted) break;
        try {
          await this.#gather(intake);
          if (this.#isStale && !(await this.reload())) return;
          this.#isStale = false;
          await this.#step(intake);
          this.#appliedAtMs = this.#options.clock();
          this.#retries.resetAfterSuccess();
        } catch (error) {
          // Where the lanes are is not known: a commit may have got through, or somebody else moved them.
          this.#isStale = true;
          if (error instanceof FencedError) await sleep(FENCED_PAUSE_MS);
          else if (isRetryable(error)) await this.#retries.waitAfterFailure(error);
          else throw error;
        }
      }
    } finally {
      signal.removeEventListener('abort', wake);
      intake.close();
    }
  }

  /** Until something comes, or it is time for the idle lanes. */
  async #wait(intake: MessageQueue): Promise<void> {
    if (this.lowestPosition >= intake.readTo) return intake.waitForChange();
    const dueInMs = this.#idleAdvancedAtMs + IDLE_ADVANCE_MS - this.#options.clock();
    if (dueInMs > 0) await intake.waitForChange(dueInMs);
  }

  async #gather(intake: MessageQueue): Promise<void> {
    const { clock, sleep } = this.#options;
    const restMs = this.#appliedAtMs + GATHER_MS - clock();
    if (restMs > 0 && intake.messages.length < ENOUGH_MESSAGES) await sleep(restMs);
  }

  async #step(intake: MessageQueue): Promise<void> {
    const { clock, lanes, run, onApplied } = this.#options;
    const batch = this.#nextBatch(intake);
    const isMany = batch.lanes.size >= lanes.length * MANY_LANES_SHARE;
    const isAll = isMany || clock() - this.#idleAdvancedAtMs >= IDLE_ADVANCE_MS;
    const from = this.#lanes.behind(batch.upTo, isAll ? undefined : batch.lanes);
    if (from.size > 0) {
      await this.#apply(batch, from);
      this.#lanes.recordMove(from, batch.upTo);
      onApplied(run, { events: batch.events, units: new Set(batch.commits.map(({ unit }) => unit)) });
    }
    if (isAll) this.#idleAdvancedAtMs = clock();
    intake.removeFirst(batch.taken);
  }

  #nextBatch(intake: MessageQueue): Batch {
    const commits: Commit[] = [];
    const skipped = new Set<string>();
    const lanes = new Set<number>();
    let events = 0;
    let taken = 0;
    let upTo = 0;
    for (const message of intake.messages) {
      if (taken >= MAX_BATCH_MESSAGES) break;
      if (this.#lanes.isPending(message.lane, message.sequence)) {
        const commit = parseCommit(message, this.#options.onMalformed);
        const isParked = this.#lanes.parked.has(message.unit);
        if (commit !== undefined && !isParked) {
          if (commits.length > 0 && events + commit.events.length > MAX_BATCH_EVENTS) break;
          commits.push(commit);
          events += commit.events.length;
        }
        if (isParked) skipped.add(message.unit);
        lanes.add(message.lane);
      }
      taken += 1;
      upTo = message.sequence;
    }
    const isAll = taken === intake.messages.length;
    return { commits, events, skipped: [...skipped], lanes, upTo: isAll ? intake.readTo : upTo, taken };
  }

  async #apply(batch: Batch, from: Positions): Promise<void> {
    const { postgres, projection, run } = this.#options;
    try {
      await postgres.transaction(async (tx) => {
        await this.#lanes.move(tx, from, batch.upTo, batch.skipped);
        if (batch.commits.length > 0) await projection.apply(tx, run.schema, batch.commits);
      });
    } catch (error) {
      if (!isPoison(error)) throw error;
      await this.#applyAndPark(batch, from);
    }
  }

  async #applyAndPark(batch: Batch, from: Positions): Promise<void> {
    const { postgres, projection, run, log } = this.#options;
    const poisons = await postgres.transaction(async (tx) => {
      await this.#lanes.move(tx, from, batch.upTo, batch.skipped);
      const found = await applyUnitByUnit(tx, projection, run.schema, batch.commits);
      for (const poison of found) await park(tx, run.id, poison);
      if (found[0] !== undefined && !mayPark(run)) throw rebuildFailed(run, found[0]);
      return found;
    });
    for (const { unit, position, reason } of poisons) {
      this.#lanes.parked.set(unit, position);
      log.error('an event cannot be applied: its unit is parked', {
        projection: run.projection,
        unit,
        position,
        reason,
      });
    }
  }
}

/** Where an older run serves on, what is built must be whole; where none does, all units but one are better than none. */
function mayPark({ status, reason }: Run): boolean {
  return status === 'serving' || reason === 'first';
}

function rebuildFailed(run: Run, { unit, position, reason }: Poison): RebuildFailedError {
  return new RebuildFailedError(`${run.schema} cannot be built: commit ${position} of ${unit}: ${reason}`);
}

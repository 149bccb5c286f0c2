/**
 * Fills a run batch by batch: a run that serves, or a run that `fold-filler.ts` could not fold.
 *
 * How it works. The filler takes queued messages in the order of the store, up to `MAX_BATCH_EVENTS` events, and applies them
 * in one transaction that also moves the checkpoints of the lanes of these messages. Each of these lanes moves to the last
 * message of the batch, because the filler has then seen every message up to there. The idle lanes have no message in the
 * batch: they move along when the batch concerns many lanes, and otherwise together, at most every `IDLE_ADVANCE_MS`.
 *
 * What holds. A checkpoint moves only from exactly the value that was read, before the transaction writes anything else. The
 * second of two owners of a lane therefore fails, rolls back, reads the checkpoints and continues from there. So every commit
 * is applied exactly once, with any number of owners, and also when a transaction is repeated because its outcome is unknown.
 */

import { isRetryable, RetryBackoff } from '../../../platform/retry/retry-policy.ts';
import { FencedError, type Positions } from '../checkpoints/checkpoints.ts';
import type { MessageQueue } from '../consume/message-queue.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import { applyUnitByUnit, isPoison, type Poison, park } from '../parking/parking.ts';
import { type Commit, MAX_BATCH_EVENTS } from '../projection.ts';
import type { Run } from '../runs/runs.ts';
import { FENCED_PAUSE_MS, type Filler, type FillOptions, RebuildFailedError } from './filler.ts';
import { LanePositions } from './lane-positions.ts';

/** Messages that one transaction covers, applied or skipped. */
const MAX_BATCH_MESSAGES = 8_000;
const IDLE_ADVANCE_MS = 100;
/** From this share of the lanes on, moving the idle lanes too costs less than it saves readers that wait for them. */
const MANY_LANES_SHARE = 0.25;
/**
 * Least pause between the end of a transaction and the start of the next: under load, more commits then share one sync of the
 * disk. A message that arrives after a longer quiet time is applied at once.
 */
const BATCHING_PAUSE_MS = 20;
/** With this many queued messages, the filler does not pause. */
const FULL_BATCH_MESSAGES = 500;

/** The work of one transaction. */
interface Batch {
  readonly commits: readonly Commit[];
  /** Number of events in `commits`. */
  readonly events: number;
  /** Parked units whose messages the batch skips. */
  readonly skippedUnits: readonly string[];
  readonly lanes: ReadonlySet<number>;
  /** The position to which the lanes move. */
  readonly upTo: number;
  /** Number of queued messages that the batch covers. */
  readonly messages: number;
}

export class BatchFiller implements Filler {
  readonly #options: FillOptions;
  readonly #retries: RetryBackoff;
  readonly #lanes: LanePositions;
  /** Whether the checkpoints in memory may differ from those in Postgres. */
  #isStale = false;
  #idleAdvancedAtMs = Number.NEGATIVE_INFINITY;
  #appliedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: FillOptions) {
    const { postgres, run, lanes } = options;
    this.#options = options;
    this.#lanes = new LanePositions(postgres, run, lanes);
    this.#retries = new RetryBackoff(`applying events to ${run.schema}`, options);
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

  writeAt(): void {
    // Every batch is committed when it is applied.
  }

  async reload(): Promise<boolean> {
    const { run, onApplied } = this.#options;
    const isActive = await this.#lanes.reload();
    onApplied(run, { events: 0, units: 'all' });
    return isActive;
  }

  async fillFrom(queue: MessageQueue): Promise<void> {
    const { signal, sleep } = this.#options;
    const notify = () => queue.notify();
    signal.addEventListener('abort', notify, { once: true });
    try {
      while (!signal.aborted) {
        if (queue.messages.length === 0) await this.#waitForWork(queue);
        if (signal.aborted) break;
        try {
          await this.#waitForMoreMessages(queue);
          if (this.#isStale && !(await this.reload())) return;
          this.#isStale = false;
          await this.#applyNextBatch(queue);
          this.#appliedAtMs = this.#options.clock();
          this.#retries.resetAfterSuccess();
        } catch (error) {
          // The transaction may have committed although it failed here, or another owner may have moved the lanes.
          this.#isStale = true;
          if (error instanceof FencedError) await sleep(FENCED_PAUSE_MS);
          else if (isRetryable(error)) await this.#retries.waitAfterFailure(error);
          else throw error;
        }
      }
    } finally {
      signal.removeEventListener('abort', notify);
      queue.close();
    }
  }

  /** Waits for a message, or until the idle lanes are due to move. */
  async #waitForWork(queue: MessageQueue): Promise<void> {
    if (this.lowestPosition >= queue.readTo) return queue.waitForChange();
    const dueInMs = this.#idleAdvancedAtMs + IDLE_ADVANCE_MS - this.#options.clock();
    if (dueInMs > 0) await queue.waitForChange(dueInMs);
  }

  /** Pauses after a recent transaction, unless enough messages for a full batch are queued. */
  async #waitForMoreMessages(queue: MessageQueue): Promise<void> {
    const { clock, sleep } = this.#options;
    const pauseMs = this.#appliedAtMs + BATCHING_PAUSE_MS - clock();
    if (pauseMs > 0 && queue.messages.length < FULL_BATCH_MESSAGES) await sleep(pauseMs);
  }

  async #applyNextBatch(queue: MessageQueue): Promise<void> {
    const { clock, lanes, run, onApplied } = this.#options;
    const batch = this.#nextBatch(queue);
    const concernsManyLanes = batch.lanes.size >= lanes.length * MANY_LANES_SHARE;
    const movesIdleLanes = concernsManyLanes || clock() - this.#idleAdvancedAtMs >= IDLE_ADVANCE_MS;
    const from = this.#lanes.behind(batch.upTo, movesIdleLanes ? undefined : batch.lanes);
    if (from.size > 0) {
      await this.#apply(batch, from);
      this.#lanes.recordMove(from, batch.upTo);
      onApplied(run, { events: batch.events, units: new Set(batch.commits.map(({ unit }) => unit)) });
    }
    if (movesIdleLanes) this.#idleAdvancedAtMs = clock();
    queue.removeFirst(batch.messages);
  }

  #nextBatch(queue: MessageQueue): Batch {
    const commits: Commit[] = [];
    const skippedUnits = new Set<string>();
    const lanes = new Set<number>();
    let events = 0;
    let messages = 0;
    let upTo = 0;
    for (const message of queue.messages) {
      if (messages >= MAX_BATCH_MESSAGES) break;
      if (this.#lanes.isPending(message.lane, message.sequence)) {
        const commit = parseCommit(message, this.#options.onMalformed);
        const isParked = this.#lanes.parked.has(message.unit);
        if (commit !== undefined && !isParked) {
          if (commits.length > 0 && events + commit.events.length > MAX_BATCH_EVENTS) break;
          commits.push(commit);
          events += commit.events.length;
        }
        if (isParked) skippedUnits.add(message.unit);
        lanes.add(message.lane);
      }
      messages += 1;
      upTo = message.sequence;
    }
    const coversQueue = messages === queue.messages.length;
    return {
      ...{ commits, events, skippedUnits: [...skippedUnits], lanes, messages },
      upTo: coversQueue ? queue.readTo : upTo,
    };
  }

  async #apply(batch: Batch, from: Positions): Promise<void> {
    const { postgres, projection, run } = this.#options;
    try {
      await postgres.transaction(async (tx) => {
        await this.#lanes.move(tx, from, batch.upTo, batch.skippedUnits);
        if (batch.commits.length > 0) await projection.apply(tx, run.schema, batch.commits);
      });
    } catch (error) {
      if (!isPoison(error)) throw error;
      await this.#applyAndPark(batch, from);
    }
  }

  /** Applies a batch with events that cannot be applied: parks their units. @throws RebuildFailedError */
  async #applyAndPark(batch: Batch, from: Positions): Promise<void> {
    const { postgres, projection, run, log } = this.#options;
    const poisons = await postgres.transaction(async (tx) => {
      await this.#lanes.move(tx, from, batch.upTo, batch.skippedUnits);
      const found = await applyUnitByUnit(tx, projection, run.schema, batch.commits);
      for (const poison of found) await park(tx, run.id, poison);
      if (found[0] !== undefined && !mayParkUnits(run)) throw rebuildFailed(run, found[0]);
      return found;
    });
    for (const { unit, position, reason } of poisons) {
      this.#lanes.parked.set(unit, position);
      log.error('an event cannot be applied: its unit is parked in this projection until an operator retries it', {
        projection: run.projection,
        unit,
        position,
        reason,
      });
    }
  }
}

/**
 * Whether a run may leave out the units of events that it cannot apply. A run that replaces another one must be complete; where
 * no other run serves, a read model without one unit is better than none.
 */
function mayParkUnits({ status, reason }: Run): boolean {
  return status === 'serving' || reason === 'first';
}

function rebuildFailed(run: Run, { unit, position, reason }: Poison): RebuildFailedError {
  return new RebuildFailedError(`${run.schema} cannot apply commit ${position} of unit ${unit}: ${reason}`);
}

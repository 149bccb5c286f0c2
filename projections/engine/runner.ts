/**
 * Fills one run of a projection from its intake.
 *
 * How it works. Messages are taken in the order of the store, as many as make up to 1,000 events, and applied in one
 * transaction that also moves the checkpoints of the lanes that they touch. Everything up to the last message taken has
 * then been seen, so a touched lane moves to there; the idle lanes follow together, at most every 100 ms.
 *
 * What holds. A checkpoint moves only from exactly the value that was read, before anything is written: whoever comes
 * second to a lane fails, rolls back, reads where the lanes are and goes on from there. So every commit is applied exactly
 * once, whoever owns the lane, and however often a transaction is repeated because nobody knows whether it was committed.
 */

import { MalformedCommitError, type StoredMessage } from '../../platform/event-store/store.ts';
import { mayPass, type Patience, Retries } from '../../platform/patience.ts';
import type { Postgres, Tx } from '../../platform/postgres/connection.ts';
import { FencedError, movePositions, readPositions } from './checkpoints.ts';
import type { Intake } from './intake.ts';
import { applyCarefully, isPoison, MAX_BATCH_EVENTS, type Poison, park, readParked, requireParked } from './parking.ts';
import type { Commit, Projection } from './projection.ts';
import type { Run } from './runs.ts';

/** Messages that one transaction may pass, applied or not. */
const MAX_BATCH_MESSAGES = 1_000;
const IDLE_ADVANCE_MS = 100;
/**
 * Pause from the end of one transaction to the beginning of the next, so that under load more commits share a sync of the
 * disk; what comes after a quiet moment waits for nothing.
 */
const GATHER_MS = 20;
/** So many messages are enough for a transaction at once. */
const ENOUGH_MESSAGES = 500;
/** After a lost race for a lane: the winner shall get on. */
const FENCED_PAUSE_MS = 20;

/** A lane is not where this process left it, but before: the database was set back. Terminal. */
export class CheckpointWentBackError extends Error {
  override readonly name = 'CheckpointWentBackError';
}

/** A run that is being built met an event that it cannot apply. Terminal: nobody is served by it yet. */
export class RebuildFailedError extends Error {
  override readonly name = 'RebuildFailedError';
}

export interface RunnerOptions extends Patience {
  readonly postgres: Postgres;
  readonly projection: Projection;
  readonly run: Run;
  readonly lanes: readonly number[];
  /** Milliseconds of a clock that nobody sets. */
  readonly clock: () => number;
  /** Called once for each message that is no commit. */
  readonly onMalformed: (message: StoredMessage, reason: string) => void;
}

/** What one transaction does. */
interface Batch {
  readonly commits: readonly Commit[];
  /** Parked units that it passes over. */
  readonly skipped: readonly string[];
  readonly lanes: ReadonlySet<number>;
  /** Everything up to here is applied with it. */
  readonly upTo: number;
  /** Messages of the intake that it covers. */
  readonly taken: number;
}

export class Runner {
  readonly #options: RunnerOptions;
  readonly #retries: Retries;
  #status: Run['status'];
  #positions = new Map<number, number>();
  #parked = new Map<string, number>();
  #isStale = false;
  #idleAdvancedAtMs = Number.NEGATIVE_INFINITY;
  #appliedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#status = options.run.status;
    this.#retries = new Retries(`applying to ${options.run.schema}`, options);
  }

  get run(): Run {
    return { ...this.#options.run, status: this.#status };
  }

  get parkedUnits(): readonly string[] {
    return [...this.#parked.keys()];
  }

  /** Everything up to here is applied in all lanes that are filled here. */
  get appliedTo(): number {
    return Math.min(...this.#positions.values());
  }

  /** Something after this is applied in none of them. */
  get reachedTo(): number {
    return Math.max(...this.#positions.values());
  }

  /** Reads where the lanes are. @throws CheckpointWentBackError */
  async reload(): Promise<void> {
    const { postgres, run, lanes } = this.#options;
    const positions = await readPositions(postgres.sql, run.id, lanes);
    for (const [lane, known] of this.#positions) {
      if ((positions.get(lane) ?? 0) >= known) continue;
      throw new CheckpointWentBackError(
        `lane ${lane} of ${run.schema} was at ${known} and is at ${positions.get(lane)}`,
      );
    }
    this.#parked = await readParked(postgres.sql, run.id, lanes);
    this.#positions = new Map(positions);
    this.#isStale = false;
  }

  /** From now on, readers see this run. */
  serve(): void {
    this.#status = 'serving';
  }

  /** Applies what comes, until the process stops. @throws what does not pass by itself */
  async fillFrom(intake: Intake): Promise<void> {
    const { signal, sleep } = this.#options;
    const wake = () => intake.wake();
    signal.addEventListener('abort', wake, { once: true });
    while (!signal.aborted) {
      if (intake.messages.length === 0) await this.#wait(intake);
      if (signal.aborted) break;
      try {
        await this.#gather(intake);
        if (this.#isStale) await this.reload();
        await this.#step(intake);
        this.#appliedAtMs = this.#options.clock();
        this.#retries.succeeded();
      } catch (error) {
        // Where the lanes are is not known: a commit may have got through, or somebody else moved them.
        this.#isStale = true;
        if (error instanceof FencedError) await sleep(FENCED_PAUSE_MS);
        else if (mayPass(error)) await this.#retries.failed(error);
        else throw error;
      }
    }
    signal.removeEventListener('abort', wake);
  }

  /** Until something comes, or it is time for the idle lanes. */
  async #wait(intake: Intake): Promise<void> {
    if (this.appliedTo >= intake.seenTo) return intake.change();
    const dueInMs = this.#idleAdvancedAtMs + IDLE_ADVANCE_MS - this.#options.clock();
    if (dueInMs > 0) await intake.change(dueInMs);
  }

  async #gather(intake: Intake): Promise<void> {
    const { clock, sleep } = this.#options;
    const restMs = this.#appliedAtMs + GATHER_MS - clock();
    if (restMs > 0 && intake.messages.length < ENOUGH_MESSAGES) await sleep(restMs);
  }

  async #step(intake: Intake): Promise<void> {
    const { clock } = this.#options;
    const isIdleDue = clock() - this.#idleAdvancedAtMs >= IDLE_ADVANCE_MS;
    const batch = this.#nextBatch(intake);
    const lanes = isIdleDue ? this.#positions.keys() : batch.lanes;
    const from = new Map<number, number>();
    for (const lane of lanes) {
      const position = this.#positions.get(lane);
      if (position !== undefined && position < batch.upTo) from.set(lane, position);
    }
    if (from.size > 0) {
      await this.#apply(batch, from);
      for (const lane of from.keys()) this.#positions.set(lane, batch.upTo);
    }
    if (isIdleDue) this.#idleAdvancedAtMs = clock();
    intake.drop(batch.taken);
  }

  #nextBatch(intake: Intake): Batch {
    const commits: Commit[] = [];
    const skipped = new Set<string>();
    const lanes = new Set<number>();
    let events = 0;
    let taken = 0;
    let upTo = 0;
    for (const message of intake.messages) {
      if (taken >= MAX_BATCH_MESSAGES) break;
      if (message.sequence > (this.#positions.get(message.lane) ?? Number.POSITIVE_INFINITY)) {
        const commit = this.#parse(message);
        const isParked = this.#parked.has(message.unit);
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
    return { commits, skipped: [...skipped], lanes, upTo: isAll ? intake.seenTo : upTo, taken };
  }

  #parse(message: StoredMessage): Commit | undefined {
    try {
      const { sequence, unit, aggregate, lane, recordedAtMs } = message;
      return { sequence, unit, aggregate, lane, recordedAtMs, events: message.events() };
    } catch (error) {
      if (!(error instanceof MalformedCommitError)) throw error;
      this.#options.onMalformed(message, error.message);
      return undefined;
    }
  }

  async #apply(batch: Batch, from: ReadonlyMap<number, number>): Promise<void> {
    const { postgres, projection, run } = this.#options;
    try {
      await postgres.transaction(async (tx) => {
        await this.#move(tx, batch, from);
        if (batch.commits.length > 0) await projection.apply(tx, run.schema, batch.commits);
      });
    } catch (error) {
      if (!isPoison(error)) throw error;
      await this.#applyAndPark(batch, from);
    }
  }

  async #applyAndPark(batch: Batch, from: ReadonlyMap<number, number>): Promise<void> {
    const { postgres, projection, run } = this.#options;
    const poisons = await postgres.transaction(async (tx) => {
      await this.#move(tx, batch, from);
      const found = await applyCarefully(tx, projection, run.schema, batch.commits);
      for (const poison of found) await park(tx, run.id, poison);
      if (found[0] !== undefined && this.#status === 'building') throw rebuildFailed(run, found[0]);
      return found;
    });
    for (const { unit, position, reason } of poisons) {
      this.#parked.set(unit, position);
      this.#options.log.error('an event cannot be applied: its unit is parked', {
        projection: run.projection,
        unit,
        position,
        reason,
      });
    }
  }

  async #move(tx: Tx, batch: Batch, from: ReadonlyMap<number, number>): Promise<void> {
    await movePositions(tx, this.#options.run.id, from, batch.upTo);
    await requireParked(tx, this.#options.run.id, batch.skipped);
  }
}

function rebuildFailed(run: Run, { unit, position, reason }: Poison): RebuildFailedError {
  return new RebuildFailedError(`${run.schema} cannot be built: commit ${position} of ${unit}: ${reason}`);
}

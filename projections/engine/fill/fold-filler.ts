/**
 * Fills a run that does not serve yet, as fast as it can: nobody reads it, so rows are written seldom and the checkpoints
 * move with them.
 *
 * How it works. What comes is folded in memory; from time to time, and when the fold is full, all rows that changed are
 * written in one transaction that also moves every lane to where the fold is. While that transaction runs, folding goes on.
 * Level with the end of the store, everything is written at once, so that the run can take over.
 *
 * What holds. The same fences as in `runner.ts`: lanes move from exactly the value that was read. When a transaction fails,
 * for whatever reason, what is in memory is thrown away, and filling begins again at the checkpoints. An event that cannot
 * be folded is left to the runner, which finds out which one it is.
 */

import { setImmediate as turn } from 'node:timers/promises';
import { isRetryable, RetryBackoff } from '../../../platform/retry/retry-policy.ts';
import { FencedError } from '../checkpoints/checkpoints.ts';
import type { MessageQueue } from '../consume/message-queue.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import { isPoison } from '../parking/parking.ts';
import type { Commit, CommitBatch, Fold, Projection } from '../projection.ts';
import { countEvents, type Run } from '../runs/runs.ts';
import { FENCED_PAUSE_MS, type Filler, type FillOptions } from './batch-filler.ts';
import { LanePositions } from './lane-positions.ts';

/** Messages that are folded in one go; then others have their turn. */
const MAX_CHUNK_MESSAGES = 250;
/** What is folded is written after this long: so much work a crash may cost. */
const WRITE_INTERVAL_MS = 3_000;
/** At the end of the store, the lanes advance at most this often. */
const LEVEL_INTERVAL_MS = 100;
/** Events that wait for one transaction where a projection has no fold. */
const MAX_WAITING_EVENTS = 4_000;

/** Something that was folded cannot be: the run is to be filled batch by batch. */
export class PoisonedFoldError extends Error {
  override readonly name = 'PoisonedFoldError';
}

export class FoldFiller implements Filler {
  readonly #options: FillOptions;
  readonly #lanes: LanePositions;
  readonly #retries: RetryBackoff;
  #foldedTo = 0;
  #events = 0;
  #writtenAtMs: number;
  #writing: Promise<void> | undefined;

  constructor(options: FillOptions) {
    const { postgres, run, lanes, clock } = options;
    this.#options = options;
    this.#lanes = new LanePositions(postgres, run, lanes);
    this.#retries = new RetryBackoff(`building ${run.schema}`, options);
    this.#writtenAtMs = clock();
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

  reload(): Promise<boolean> {
    return this.#lanes.reload();
  }

  /** Ends also when what is folded is lost: then it is to be begun anew. @throws PoisonedFoldError and what does not pass */
  async fillFrom(intake: MessageQueue): Promise<void> {
    const { signal, sleep } = this.#options;
    const wake = () => intake.notify();
    signal.addEventListener('abort', wake, { once: true });
    try {
      await this.#foldAll(intake);
    } catch (error) {
      if (error instanceof FencedError) await sleep(FENCED_PAUSE_MS);
      else if (isRetryable(error)) await this.#retries.waitAfterFailure(error);
      else if (isPoison(error)) throw new PoisonedFoldError(`${this.run.schema} cannot be folded`, { cause: error });
      else throw error;
    } finally {
      signal.removeEventListener('abort', wake);
      intake.close();
      await this.#writing?.catch(() => undefined);
    }
  }

  async #foldAll(intake: MessageQueue): Promise<void> {
    const { signal, clock, projection, run } = this.#options;
    if (this.#lanes.parked.size > 0) throw new PoisonedFoldError(`${run.schema} has parked units`);
    const fold =
      projection.openFold?.(run.schema, this.highestPosition === 0) ?? new PendingBatches(projection, run.schema);
    this.#foldedTo = this.lowestPosition;
    while (!signal.aborted) {
      if (intake.messages.length === 0) await this.#level(fold, intake);
      if (signal.aborted) break;
      await this.#take(fold, intake);
      if (fold.isFull || clock() - this.#writtenAtMs >= WRITE_INTERVAL_MS) await this.#write(fold);
      await turn();
    }
    await this.#write(fold);
    await this.#writing;
  }

  /** Nothing has come that is not folded: the lanes advance to the end, and then it waits. */
  async #level(fold: Fold, intake: MessageQueue): Promise<void> {
    this.#foldedTo = Math.max(this.#foldedTo, intake.readTo);
    if (this.#lanes.behind(this.#foldedTo).size === 0) return intake.waitForChange();
    const dueInMs = this.#writtenAtMs + LEVEL_INTERVAL_MS - this.#options.clock();
    if (dueInMs > 0) return intake.waitForChange(dueInMs);
    await this.#write(fold);
    await this.#writing;
  }

  async #take(fold: Fold, intake: MessageQueue): Promise<void> {
    const { postgres, onMalformed } = this.#options;
    const commits: Commit[] = [];
    const messages = intake.messages.slice(0, MAX_CHUNK_MESSAGES);
    for (const message of messages) {
      if (!this.#lanes.isPending(message.lane, message.sequence)) continue;
      const commit = parseCommit(message, onMalformed);
      if (commit === undefined) continue;
      commits.push(commit);
      this.#events += commit.events.length;
    }
    if (commits.length > 0) await fold.add(postgres.sql, commits);
    this.#foldedTo = messages.at(-1)?.sequence ?? this.#foldedTo;
    intake.removeFirst(messages.length);
  }

  /** Begins to write; waits only for the write before. */
  async #write(fold: Fold): Promise<void> {
    const { postgres, run, clock, onApplied } = this.#options;
    await this.#writing;
    const write = fold.drain();
    const upTo = this.#foldedTo;
    const from = this.#lanes.behind(upTo);
    const events = this.#events;
    this.#events = 0;
    this.#writtenAtMs = clock();
    if (from.size === 0) return;
    this.#writing = postgres
      .transaction(async (tx) => {
        await this.#lanes.move(tx, from, upTo);
        await write(tx);
        await countEvents(tx, run.id, events);
      })
      .then(() => {
        this.#lanes.recordMove(from, upTo);
        onApplied(run, { events, units: 'all' });
      });
    // It is waited for later.
    this.#writing.catch(() => undefined);
  }
}

/** For a projection that has no fold: batches wait, and are applied together. */
class PendingBatches implements Fold {
  readonly #projection: Projection;
  readonly #schema: string;
  #commits: Commit[] = [];
  #events = 0;

  constructor(projection: Projection, schema: string) {
    this.#projection = projection;
    this.#schema = schema;
  }

  get isFull(): boolean {
    return this.#events >= MAX_WAITING_EVENTS;
  }

  add(_sql: unknown, batch: CommitBatch): void {
    this.#commits.push(...batch);
    for (const { events } of batch) this.#events += events.length;
  }

  drain() {
    const commits = this.#commits;
    this.#commits = [];
    this.#events = 0;
    return async (tx: Parameters<Projection['apply']>[0]) => {
      if (commits.length > 0) await this.#projection.apply(tx, this.#schema, commits);
    };
  }
}

/**
 * Fills a run that does not serve yet, as fast as possible: no reader needs its rows now, so the filler writes them seldom.
 *
 * How it works. The filler folds messages in memory. Every `WRITE_INTERVAL_MS`, and when the fold is full, it writes all rows
 * that changed in one transaction that also moves every lane to the position of the fold. It goes on folding while that
 * transaction runs. At the end of the store it writes at once, and at a position that `writeAt` names, so that the run can be promoted.
 *
 * What holds. The fences are those of `batch-filler.ts`: a lane moves only from exactly the value that was read. When a
 * transaction fails, the filler discards the fold and begins again at the checkpoints. When an event cannot be folded, it
 * throws PoisonedFoldError: the engine then fills the run by a batch filler, which finds the event.
 */

import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { isRetryable, RetryBackoff } from '../../../platform/retry/retry-policy.ts';
import { FencedError } from '../checkpoints/checkpoints.ts';
import type { MessageQueue } from '../consume/message-queue.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import { isPoison } from '../parking/parking.ts';
import type { Commit, CommitBatch, Fold, Projection } from '../projection.ts';
import { countEvents, type Run } from '../runs/runs.ts';
import { FENCED_PAUSE_MS, type Filler, type FillOptions } from './filler.ts';
import { LanePositions } from './lane-positions.ts';

/** Messages that the filler folds before other tasks of the process get their turn. */
const MAX_CHUNK_MESSAGES = 250;
/** A crash costs at most the work of this time. */
const WRITE_INTERVAL_MS = 3_000;
/** At the end of the store, the filler writes at most this often. */
const WRITE_AT_END_INTERVAL_MS = 100;
/** Events that wait for one transaction where a projection has no fold. */
const MAX_PENDING_EVENTS = 4_000;

/** An event cannot be folded: the run must be filled batch by batch. */
export class PoisonedFoldError extends Error {
  override readonly name = 'PoisonedFoldError';
}

export class FoldFiller implements Filler {
  readonly #options: FillOptions;
  readonly #lanes: LanePositions;
  readonly #retries: RetryBackoff;
  #foldedTo = 0;
  /** Events that are folded and not written yet. */
  #events = 0;
  #writtenAtMs: number;
  #write: Promise<void> | undefined;
  #writeAtPosition = Number.POSITIVE_INFINITY;
  #notify: () => void = () => undefined;

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

  writeAt(position: number): void {
    this.#writeAtPosition = Math.min(this.#writeAtPosition, position);
    this.#notify();
  }

  reload(): Promise<boolean> {
    return this.#lanes.reload();
  }

  /** Also returns when the fold was discarded; the caller then begins again. @throws PoisonedFoldError; every terminal error */
  async fillFrom(queue: MessageQueue): Promise<void> {
    const { signal, sleep } = this.#options;
    const notify = () => queue.notify();
    this.#notify = notify;
    signal.addEventListener('abort', notify, { once: true });
    try {
      await this.#foldQueue(queue);
    } catch (error) {
      if (error instanceof FencedError) await sleep(FENCED_PAUSE_MS);
      else if (isRetryable(error)) await this.#retries.waitAfterFailure(error);
      else if (isPoison(error))
        throw new PoisonedFoldError(`${this.run.schema} cannot be filled by folding`, { cause: error });
      else throw error;
    } finally {
      signal.removeEventListener('abort', notify);
      queue.close();
      await this.#write?.catch(() => undefined);
    }
  }

  async #foldQueue(queue: MessageQueue): Promise<void> {
    const { signal, clock, projection, run } = this.#options;
    if (this.#lanes.parked.size > 0) throw new PoisonedFoldError(`${run.schema} has parked units`);
    const fold =
      projection.openFold?.(run.schema, this.highestPosition === 0) ?? new PendingBatches(projection, run.schema);
    this.#foldedTo = this.lowestPosition;
    while (!signal.aborted) {
      if (queue.messages.length === 0) await this.#writeAtEnd(fold, queue);
      if (signal.aborted) break;
      await this.#foldChunk(fold, queue);
      const isDue = this.#foldedTo >= this.#writeAtPosition || clock() - this.#writtenAtMs >= WRITE_INTERVAL_MS;
      if (fold.isFull || isDue) await this.#startWrite(fold);
      await yieldToOthers();
    }
    await this.#startWrite(fold);
    await this.#write;
  }

  /** Moves the lanes to the end of the store when everything is folded, and waits for the next message. */
  async #writeAtEnd(fold: Fold, queue: MessageQueue): Promise<void> {
    this.#foldedTo = Math.max(this.#foldedTo, queue.readTo);
    if (this.#lanes.behind(this.#foldedTo).size === 0) return queue.waitForChange();
    const dueInMs = this.#writtenAtMs + WRITE_AT_END_INTERVAL_MS - this.#options.clock();
    if (dueInMs > 0 && this.#foldedTo < this.#writeAtPosition) return queue.waitForChange(dueInMs);
    await this.#startWrite(fold);
    await this.#write;
  }

  async #foldChunk(fold: Fold, queue: MessageQueue): Promise<void> {
    const { postgres, onMalformed } = this.#options;
    const commits: Commit[] = [];
    const messages = queue.messages.slice(0, MAX_CHUNK_MESSAGES);
    for (const message of messages) {
      if (!this.#lanes.isPending(message.lane, message.sequence)) continue;
      const commit = parseCommit(message, onMalformed);
      if (commit === undefined) continue;
      commits.push(commit);
      this.#events += commit.events.length;
    }
    if (commits.length > 0) await fold.add(postgres.sql, commits);
    this.#foldedTo = messages.at(-1)?.sequence ?? this.#foldedTo;
    queue.removeFirst(messages.length);
  }

  /** Starts to write the fold. Waits for the write before, and not for this one. @throws the error of the write before */
  async #startWrite(fold: Fold): Promise<void> {
    const { postgres, run, clock, onApplied } = this.#options;
    await this.#write;
    const writeRows = fold.drain();
    const upTo = this.#foldedTo;
    const from = this.#lanes.behind(upTo);
    const events = this.#events;
    this.#events = 0;
    this.#writtenAtMs = clock();
    if (upTo >= this.#writeAtPosition) this.#writeAtPosition = Number.POSITIVE_INFINITY;
    if (from.size === 0) return;
    this.#write = postgres
      .transaction(async (tx) => {
        await this.#lanes.move(tx, from, upTo);
        await writeRows(tx);
        await countEvents(tx, run.id, events);
      })
      .then(() => {
        this.#lanes.recordMove(from, upTo);
        onApplied(run, { events, units: 'all' });
      });
    // The next write awaits this one and throws its error; until then the rejection must not count as unhandled.
    this.#write.catch(() => undefined);
  }
}

/** The fold of a projection that has none: it collects batches and applies them together. */
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
    return this.#events >= MAX_PENDING_EVENTS;
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

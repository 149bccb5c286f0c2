/**
 * Parked work: what a queue could not do for a unit, and keeps for operators. `platform/parked-work/` stores it in Postgres, one row
 * for each queue, unit and job. A row stands for the messages of its subject from the first to the last one that was parked.
 *
 * The queue retries each row at a slow pace (`PARKED_RETRIES`), and when an operator asks for it. Handlers are idempotent, so a row
 * may be retried by two processes, and beside other messages of its unit.
 */

import { errorMessage } from '../observability/error-message.ts';
import { FailureLog } from '../observability/failure-log.ts';
import type { Nats } from './connection.ts';
import { readDirectly } from './jetstream.ts';
import type { StreamName } from './streams.ts';
import { nextStep, PARKED_RETRIES, retryDelayMs } from './work-failures.ts';
import type { WorkerOptions, WorkMessage } from './work-queue.ts';

/** Pause between two looks for parked work that is due. */
const POLL_INTERVAL_MS = 1_000;
/** The same while Postgres is away. */
const POLL_FAILURE_MS = 5_000;
/** Rows that a queue of one process retries at the same time. */
const MAX_CONCURRENT_RETRIES = 4;
/** Messages of one row that one retry handles. The rest follows at once. */
const MAX_MESSAGES_PER_RETRY = 50;

export interface ParkedKey {
  readonly queue: string;
  readonly unit: string;
  /** The kind of a job, or the aggregate of an event. */
  readonly job: string;
}

export interface WorkToPark extends ParkedKey {
  readonly stream: StreamName;
  readonly subject: string;
  readonly sequence: number;
  /** Failed attempts, in words and as a number. */
  readonly attempts: number;
  readonly reason: string;
  readonly error: string | undefined;
  readonly retryInMs: number;
}

/** A row that this process has claimed for a retry. */
export interface ClaimedWork extends ParkedKey {
  readonly id: string;
  readonly stream: StreamName;
  readonly subject: string;
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly attempts: number;
  /** Grows when further messages are parked in the row. */
  readonly revision: number;
}

export interface ParkedWork {
  /** Parks a message, in the row of its key if there is one. @returns whether the row is new @throws PostgresUnavailableError */
  park(work: WorkToPark): Promise<boolean>;
  /** Claims rows that are due for this process, for a limited time. */
  claimDue(queue: string, limit: number): Promise<readonly ClaimedWork[]>;
  /** Removes a row whose messages up to `through` are handled. If it has others, it keeps these, and they are due at once. */
  complete(work: ClaimedWork, through: number): Promise<void>;
  /** Keeps a row from its message `from` on, after an attempt that failed or that came too early. */
  postpone(work: ClaimedWork, after: Postponement): Promise<void>;
  /** Makes a row due. */
  retrySoon(key: ParkedKey): Promise<void>;
  /** Counts a retry for the metrics. */
  countRetry(queue: string): void;
}

export interface Postponement {
  readonly from: number;
  readonly retryInMs: number;
  /** Absent when the attempt was no failure of the work. */
  readonly failure?: { readonly reason: string; readonly error: string | undefined };
}

export type ParkedRetryOptions = Pick<
  WorkerOptions,
  'stream' | 'durable' | 'queue' | 'newestOnly' | 'handle' | 'random' | 'signal' | 'sleep' | 'log'
> & { readonly parkedWork: ParkedWork };

/** Retries the parked work of a queue that is due until `signal` aborts. */
export async function retryParkedWork(nats: Nats, options: ParkedRetryOptions): Promise<void> {
  const { durable, queue = durable, parkedWork, signal, sleep, log } = options;
  const failureLog = new FailureLog({
    operation: `retrying the parked work of the queue ${queue}`,
    consequence: 'It is repeated; the work stays parked.',
    log,
  });
  while (!signal.aborted) {
    let pauseMs = POLL_INTERVAL_MS;
    try {
      const due = await parkedWork.claimDue(queue, MAX_CONCURRENT_RETRIES);
      await Promise.all(due.map((work) => retryRow(nats, work, options)));
      if (due.length === MAX_CONCURRENT_RETRIES) pauseMs = 0;
      failureLog.recordSuccess();
    } catch (error) {
      failureLog.recordFailure(error);
      pauseMs = POLL_FAILURE_MS;
    }
    if (!signal.aborted) await sleep(pauseMs);
  }
}

async function retryRow(nats: Nats, work: ClaimedWork, options: ParkedRetryOptions): Promise<void> {
  const { parkedWork, handle, random = Math.random, log } = options;
  // Jobs have no payload, and the stream has deleted them.
  const hasPayload = !options.newestOnly && work.stream !== 'JOBS';
  const messages = hasPayload ? await readMessages(nats, work) : [withoutPayload(work)];
  parkedWork.countRetry(work.queue);
  for (const message of messages) {
    const attempts = { failures: work.attempts, faults: 0 };
    const { step } = await nextStep(() => handle(message), attempts, { random, isParked: true });
    if (step.kind === 'done') continue;
    const from = message.sequence;
    if (step.kind === 'wait') return parkedWork.postpone(work, { from, retryInMs: step.ms });
    const failure = { reason: step.reason, error: step.error === undefined ? undefined : errorMessage(step.error) };
    const retryInMs = Math.max(step.retryInMs, retryDelayMs(PARKED_RETRIES, work.attempts, random()));
    return parkedWork.postpone(work, { from, retryInMs, failure });
  }
  const through = messages.length < MAX_MESSAGES_PER_RETRY ? work.lastSequence : (messages.at(-1)?.sequence ?? 0);
  await parkedWork.complete(work, through);
  log.info('Parked work of a unit succeeded.', { queue: work.queue, unit: work.unit, job: work.job });
}

/** The messages of a row that the stream still has. A work queue has deleted those that were handled meanwhile. */
async function readMessages(nats: Nats, work: ClaimedWork): Promise<WorkMessage[]> {
  const { messages } = await readDirectly(nats, work.stream, {
    sequence: work.firstSequence,
    filter: work.subject,
    limit: MAX_MESSAGES_PER_RETRY,
  });
  return messages
    .filter(({ sequence }) => sequence <= work.lastSequence)
    .map(({ subject, data, sequence, timestampMs: storedAtMs, header }) => {
      return { subject, data, sequence, storedAtMs, header, deliveries: work.attempts + 1 };
    });
}

/** The newest message of a row whose handler reads nothing of a message but its subject. */
function withoutPayload({ subject, lastSequence: sequence, attempts }: ClaimedWork): WorkMessage {
  const data = new Uint8Array();
  return { subject, data, sequence, deliveries: attempts + 1, storedAtMs: 0, header: () => undefined };
}

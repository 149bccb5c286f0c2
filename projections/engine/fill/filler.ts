import type { StoredMessage } from '../../../platform/event-store/store.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import type { RetryPolicy } from '../../../platform/retry/retry-policy.ts';
import type { Applied } from '../applied.ts';
import type { MessageQueue } from '../consume/message-queue.ts';
import type { Projection } from '../projection.ts';
import type { Run } from '../runs/runs.ts';

/** Pause of a filler that another process has fenced: the other owner of the lane gets a head start. */
export const FENCED_PAUSE_MS = 20;

export interface FillOptions extends RetryPolicy {
  readonly postgres: Postgres;
  readonly projection: Projection;
  readonly run: Run;
  /** The lanes that this process fills; at least one. */
  readonly lanes: readonly number[];
  /** Monotonic, in milliseconds. */
  readonly clock: () => number;
  /** Called for each message that is no commit, by every filler that receives it. */
  readonly onMalformed: (message: StoredMessage, reason: string) => void;
  /**
   * Called after each committed transaction, and with no events when a filler has read its checkpoints again. Must not throw.
   */
  readonly onApplied: (run: Run, applied: Applied) => void;
}

/** Fills some lanes of one run. */
export interface Filler {
  readonly run: Run;
  /** Every lane is applied up to this position. */
  readonly lowestPosition: number;
  /** No lane is applied beyond this position. */
  readonly highestPosition: number;
  /** Reads the checkpoints of the lanes. @returns false when the run has ended */
  reload(): Promise<boolean>;
  /** Commits what the filler has applied in memory as soon as it has reached a position; afterwards the filler writes as before. */
  writeAt(position: number): void;
  /** Applies queued messages until the signal aborts or the run ends. @throws every terminal error */
  fillFrom(queue: MessageQueue): Promise<void>;
}

/** A run that is being built met an event that it cannot apply. The run that serves is not affected. */
export class RebuildFailedError extends Error {
  override readonly name = 'RebuildFailedError';
}

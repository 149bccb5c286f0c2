import type { EventStore } from '../../platform/event-store/store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import type { Projection } from '../engine/projection.ts';
import type { Output } from './progress-display.ts';

/** What an operation of `./run projections` works with. */
export interface OperationContext {
  readonly postgres: Postgres;
  readonly store: EventStore;
  /** The projections of this code. */
  readonly projections: readonly Projection[];
  readonly output: Output;
  /** Monotonic, in milliseconds. */
  readonly clock: () => number;
  /** Resolves after `ms`, or at once when the operator interrupts. */
  readonly sleep: (ms: number) => Promise<unknown>;
  /** Aborts when the operator presses Ctrl-C. */
  readonly interrupted: AbortSignal;
  /** Names the operator in the record of a rebuild. */
  readonly by: string;
}

/** Exit status of an operation. */
export const SUCCEEDED = 0;
export const FAILED = 1;
/** 128 + SIGINT, as shells report it. */
export const INTERRUPTED = 130;

/** The answer to a name that no projection has. */
export function unknownProjection(name: string, projections: readonly Projection[]): string {
  const names = projections.map((projection) => projection.name).toSorted();
  return `There is no read model "${name}". The read models are: ${names.join(', ')}.`;
}

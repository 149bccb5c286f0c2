/**
 * A unit as it was. What the platform believed at a moment is the fold of what was recorded by then. What really was is that
 * and what was recorded later and had happened by then: logs of units that were cut off, events that were recovered.
 *
 * What comes late is folded in the order of the store, which is that of each subject. Each log, that of one subject or of one
 * epoch of a unit, counts up to its first event that happened after the moment, and no further: so every log is as it was at some
 * moment, and a clock that was set back cannot make the end of a rental count without its beginning. Epochs stand apart because
 * what is left of one can arrive when a newer one has begun.
 */

import { boundedOccurredAtMs, type ClockStamp } from '../device/unit-clock.ts';
import { upcast } from '../events/catalogue.ts';
import type { CloudEvent } from '../events/cloud-event.ts';
import type { FoldableCommit } from './unit.ts';

/** A commit, and when the store took it, milliseconds since 1970. */
export interface RecordedCommit extends FoldableCommit {
  readonly recordedAtMs: number;
}

/** Picks out of what was recorded after a moment what had happened by then. Takes the commits in the order of the store. */
export class LateEventFilter {
  readonly #atMs: number;
  readonly #ended = new Set<string>();

  /** `atMs`: the moment, milliseconds since 1970. */
  constructor(atMs: number) {
    this.#atMs = atMs;
  }

  /** The part of a commit that had happened; `undefined` when nothing of it had. */
  filterCommit(commit: RecordedCommit): FoldableCommit | undefined {
    const { aggregate, sequence, recordedAtMs } = commit;
    const events = commit.events.filter((event) => this.#hadHappened(event, aggregate, recordedAtMs));
    return events.length === 0 ? undefined : { aggregate, sequence, events };
  }

  #hadHappened(event: CloudEvent, aggregate: string, recordedAtMs: number): boolean {
    const recovered = recoveredClockStamp(event);
    // What was recovered stands outside its log, each for itself.
    if (recovered !== undefined) return boundedOccurredAtMs(recovered, recordedAtMs) <= this.#atMs;
    const log = event.unitepoch ?? aggregate;
    if (this.#ended.has(log)) return false;
    if (boundedOccurredAtMs(event, recordedAtMs) <= this.#atMs) return true;
    this.#ended.add(log);
    return false;
  }
}

/** When what was rejected and accepted later had happened at the unit, on its clock. */
function recoveredClockStamp(event: CloudEvent): ClockStamp | undefined {
  const known = upcast(event);
  if (known?.type !== 'UnitEventRecovered') return undefined;
  const { time, clockOffsetMs } = known.data;
  return clockOffsetMs === undefined ? { time } : { time, clockoffsetms: clockOffsetMs };
}

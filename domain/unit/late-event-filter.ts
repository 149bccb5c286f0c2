/**
 * Selects late events for a view of the past. What the platform *believed* at a moment is the fold of the commits recorded by then. What
 * *was* includes the events that were recorded later and had occurred by then: logs of units that were cut off, and recovered events.
 *
 * Late events are folded in the order of the store. A log is a subject, or one epoch of a unit. Each log counts up to its first event
 * that occurred after the moment. So every log is as it was at some moment, and a clock that was set back cannot make the end of a
 * rental count without its beginning. Epochs are separate logs because the rest of one can arrive after the next has begun.
 *
 * A registration after the moment begins another unit with the same name: nothing that is recorded after it counts.
 */

import { boundedOccurredAtMs, type ClockStamp } from '../device/unit-clock.ts';
import { upcast } from '../events/catalogue.ts';
import type { CloudEvent } from '../events/cloud-event.ts';
import type { FoldableCommit } from './unit.ts';

/** A commit and when the store recorded it, in milliseconds since 1970. */
export interface RecordedCommit extends FoldableCommit {
  readonly recordedAtMs: number;
}

/** Selects, from the commits recorded after a moment, the events that had occurred by then. Its caller passes commits in store order. */
export class LateEventFilter {
  readonly #atMs: number;
  readonly #ended = new Set<string>();
  #isLaterUnit = false;

  /** `atMs` is the moment, in milliseconds since 1970. */
  constructor(atMs: number) {
    this.#atMs = atMs;
  }

  /** The commit with the events that had occurred; `undefined` when none had. */
  filterCommit(commit: RecordedCommit): FoldableCommit | undefined {
    const { aggregate, sequence, recordedAtMs } = commit;
    const events = commit.events.filter((event) => this.#hadHappened(event, aggregate, recordedAtMs));
    return events.length === 0 ? undefined : { aggregate, sequence, events };
  }

  #hadHappened(event: CloudEvent, aggregate: string, recordedAtMs: number): boolean {
    if (this.#isLaterUnit) return false;
    if (event.type === 'UnitRegistered' && boundedOccurredAtMs(event, recordedAtMs) > this.#atMs) {
      this.#isLaterUnit = true;
      return false;
    }
    const recovered = recoveredClockStamp(event);
    // A recovered event belongs to no log: it counts by its own time.
    if (recovered !== undefined) return boundedOccurredAtMs(recovered, recordedAtMs) <= this.#atMs;
    const log = event.unitepoch ?? aggregate;
    if (this.#ended.has(log)) return false;
    if (boundedOccurredAtMs(event, recordedAtMs) <= this.#atMs) return true;
    this.#ended.add(log);
    return false;
  }
}

/** When a recovered event occurred at the unit, without the offset of the unit's clock. */
function recoveredClockStamp(event: CloudEvent): ClockStamp | undefined {
  const known = upcast(event);
  if (known?.type !== 'UnitEventRecovered') return undefined;
  const { time, clockOffsetMs } = known.data;
  return clockOffsetMs === undefined ? { time } : { time, clockoffsetms: clockOffsetMs };
}

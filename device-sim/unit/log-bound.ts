/**
 * The store of a unit is finite: a unit that is cut off for too long lets the oldest entries of its log go. What is left
 * must make sense on its own, so it begins with the state of every locker.
 *
 * Nobody knows beforehand where the log will be cut, and an entry cannot be changed any more once it has its place. So the
 * unit writes such reports in time:
 *
 *   first ──────────── half full: a checkpoint ──────────── full: all before the checkpoint goes,
 *                                                           and the next checkpoint follows at once
 *
 * A checkpoint is an entry like any other, true where it stands. When the unit comes back before the log was full, it is
 * recorded in its place and changes nothing.
 */

import { stateReport } from './lifecycle.ts';
import { type Decision, type DecisionContext, decisionWith, firstAvailableSeq } from './model.ts';

/** Below this, a cut would leave nothing worth having. */
export const MIN_UNRECORDED_EVENTS = 8;
export const DEFAULT_MAX_UNRECORDED_EVENTS = 100_000;

/**
 * The decision within the bound of the log: at most `maxEvents` that are not recorded.
 * @param maxEvents at least `MIN_UNRECORDED_EVENTS`
 */
export function boundLog<A>(
  decision: Decision<A>,
  around: Pick<DecisionContext, 'nowMs' | 'isOffline'>,
  maxEvents: number,
): Decision<A> {
  let { unit, entries } = decision;
  // What others say they have never adds to the log.
  if (entries.length === 0) return decision;
  for (;;) {
    const { log } = unit;
    const first = firstAvailableSeq(log);
    const kept = log.lastSeq + 1 - first;
    const hasCheckpoint = log.checkpointSeq > first;
    if (!hasCheckpoint && kept * 2 >= maxEvents) {
      const reported = decisionWith(unit, around, [stateReport(unit, 'gap')], null);
      entries = [...entries, ...reported.entries];
      unit = { ...reported.unit, log: { ...reported.unit.log, checkpointSeq: reported.unit.log.lastSeq } };
    } else if (kept > maxEvents) {
      unit = { ...unit, log: { ...log, droppedSeq: log.checkpointSeq - 1 } };
    } else {
      return { ...decision, unit, entries };
    }
  }
}

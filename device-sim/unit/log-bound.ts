/**
 * The bound of a unit's log. The store of a unit is finite: a unit without a connection deletes its oldest unrecorded
 * events when the log is full. The remaining events must make sense without the deleted ones, so they begin with a report of
 * the state of every locker.
 *
 * An event cannot be inserted before events that have their seq, so the unit appends such a report, a checkpoint, before the log is
 * full:
 *
 *   log half full: append a checkpoint ──▶ log full: delete everything before the checkpoint, append the next checkpoint
 *
 * A checkpoint is an ordinary event. When the unit is back online before its log is full, the platform records the
 * checkpoint in its place, and it changes nothing.
 */

import { stateReport } from './lifecycle.ts';
import { type Decision, type DecisionContext, decisionWith, firstAvailableSeq } from './model.ts';

/** A smaller log would have room for little more than its checkpoint. */
export const MIN_UNRECORDED_EVENTS = 8;
export const DEFAULT_MAX_UNRECORDED_EVENTS = 100_000;

/**
 * Keeps a decision within the bound of the log: the unit has at most `maxEvents` unrecorded events after it.
 * @param maxEvents at least `MIN_UNRECORDED_EVENTS`
 */
export function boundLog<A>(
  decision: Decision<A>,
  context: Pick<DecisionContext, 'nowMs' | 'isOffline'>,
  maxEvents: number,
): Decision<A> {
  let { unit, entries } = decision;
  if (entries.length === 0) return decision;
  for (;;) {
    const { log } = unit;
    const first = firstAvailableSeq(log);
    const count = log.lastSeq + 1 - first;
    const hasCheckpoint = log.checkpointSeq > first;
    if (!hasCheckpoint && count * 2 >= maxEvents) {
      const reported = decisionWith(unit, context, [stateReport(unit, 'gap')], null);
      entries = [...entries, ...reported.entries];
      unit = { ...reported.unit, log: { ...reported.unit.log, checkpointSeq: reported.unit.log.lastSeq } };
    } else if (count > maxEvents) {
      unit = { ...unit, log: { ...log, droppedSeq: log.checkpointSeq - 1 } };
    } else {
      return { ...decision, unit, entries };
    }
  }
}

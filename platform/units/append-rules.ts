/** How the unit decider appends: the priority of an aggregate, and the command id of what a unit reported. */

import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import type { AppendPriority } from '../event-store/store.ts';

/** Aggregates whose events thousands of units report at once. The store commits people's decisions before them. */
const BACKGROUND_AGGREGATES: ReadonlySet<Aggregate> = new Set(['device', 'connectivity', 'log']);

export function priorityOf(aggregate: Aggregate): AppendPriority {
  return BACKGROUND_AGGREGATES.has(aggregate) ? 'background' : 'interactive';
}

/** `UNIT/EPOCH/FIRST-LAST` */
export function reportedCommandId(events: readonly CloudEvent[]): string {
  return `${events[0]?.id}-${events.at(-1)?.unitseq}`;
}

/** The NATS subjects of events, units, timers and jobs. Each contains the shard tokens of its unit, so that its lane follows from it. */

import { AGGREGATES, type Aggregate } from '../../domain/events/cloud-event.ts';
import { laneOfTokens, shardTokens } from '../../domain/shard.ts';

const AGGREGATE_NAMES: ReadonlySet<string> = new Set(AGGREGATES);

/** `evt.<h1>.<h2>.<unit>.<aggregate>` */
export function eventSubject(unit: string, aggregate: Aggregate): string {
  return `evt.${shardTokens(unit)}.${unit}.${aggregate}`;
}

/** All event subjects of one unit. */
export function unitEventsFilter(unit: string): string {
  return `evt.${shardTokens(unit)}.${unit}.*`;
}

/** Parses a subject of `EVENTS`. @returns `undefined` when the subject is not that of a commit */
export function parseEventSubject(
  subject: string,
): { readonly unit: string; readonly aggregate: Aggregate; readonly lane: number } | undefined {
  const [evt, h1, h2, unit, aggregate, ...rest] = subject.split('.');
  if (evt !== 'evt' || h1 === undefined || h2 === undefined || unit === undefined || aggregate === undefined) {
    return undefined;
  }
  const lane = laneOfTokens(h1, h2);
  if (rest.length > 0 || !AGGREGATE_NAMES.has(aggregate) || Number.isNaN(lane)) return undefined;
  return { unit, aggregate: aggregate as Aggregate, lane };
}

/** Where a unit publishes its batches: `unit.<h1>.<h2>.<unit>.events`. */
export function unitPushSubject(unit: string): string {
  return `unit.${shardTokens(unit)}.${unit}.events`;
}

/** Where a unit publishes its heartbeats. */
export function unitHeartbeatSubject(unit: string): string {
  return `unit.${shardTokens(unit)}.${unit}.heartbeat`;
}

/** The heartbeats of the units of a two-letter shard. */
export function unitHeartbeatFilter(shard: string): string {
  return `unit.${shard.slice(0, 1)}.${shard.slice(1)}.*.heartbeat`;
}

/** Where a unit receives commands, each as a request. */
export function unitCommandsSubject(unit: string): string {
  return `unit.${shardTokens(unit)}.${unit}.commands`;
}

/** The unit that a `unit.…` subject names. */
export function unitOfUnitSubject(subject: string): string | undefined {
  return subject.split('.')[3];
}

/** The subject of a timer of a unit. A later timer on the same subject replaces it. */
export function timerSubject(unit: string, name: string): string {
  return `timer.${shardTokens(unit)}.${unit}.${name}`;
}

/** The subject of a job for a unit. */
export function jobSubject(unit: string, kind: string): string {
  return `job.${shardTokens(unit)}.${unit}.${kind}`;
}

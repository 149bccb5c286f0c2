/** The history of a fleet in emmett's own event store: the commits of `FleetHistory`, each appended to the stream of its subject. */

import type { Event } from '@event-driven-io/emmett';
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
import { definitionOf, EVENT_CATALOGUE, type EventType } from '../../domain/events/catalogue.ts';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { evolveUnit, newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import type { Append } from '../../platform/event-store/store.ts';
import { withoutUses } from '../../projections/unit-states/unit-states.ts';
import { FOLLOWED } from '../../projections/units/projection.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { seededRandom } from '../support/random.ts';

const COMMITS_PER_TAKE = 100;

export interface HistoryTask {
  readonly databaseUrl: string;
  readonly events: number;
  readonly units: number;
  readonly lockers: number;
  readonly seed: number;
}

/** A CloudEvent of ours as an event of emmett. */
export type Recorded = Event<
  string,
  Pick<CloudEvent, keyof CloudEvent>,
  { readonly unit: string; readonly aggregate: Aggregate; readonly recordedAt: string }
>;

const ALL_TYPES = Object.keys(EVENT_CATALOGUE) as EventType[];
export const RECORDED_TYPES: string[] = ALL_TYPES;
/** Those that can stand in a subject that `units` follows: what need not be looked at costs nothing. */
export const FOLLOWED_TYPES: string[] = ALL_TYPES.filter((type) =>
  definitionOf(type).aggregates.some((aggregate) => FOLLOWED.has(aggregate)),
);

/** Folds one event in as `units` does. @param position of the event, higher than all before it */
export function evolveWith(
  state: UnitState,
  { data, metadata: { aggregate } }: { readonly data: CloudEvent; readonly metadata: Recorded['metadata'] },
  position: bigint,
): UnitState {
  if (!FOLLOWED.has(aggregate)) return state;
  return withoutUses(evolveUnit(state, { aggregate, sequence: Number(position), events: [data] }));
}

export interface AppendedHistory {
  readonly events: number;
  /** When the first and the last were appended, milliseconds since 1970. */
  readonly recordedAtMs: readonly [number, number];
  /** The units as a projection has to have them in the end. */
  readonly states: ReadonlyMap<string, UnitState>;
}

/**
 * Appends one commit after the other. Where appends overlap, transactions begin in another order than their positions are
 * given out; emmett's consumer reads by the one and goes on by the other, and passes over events.
 *
 * Nobody has to survive a power cut yet, so a commit need not wait for the disk.
 */
export async function appendHistory(task: HistoryTask): Promise<AppendedHistory> {
  const url = new URL(task.databaseUrl);
  url.searchParams.set('options', '-c synchronous_commit=off');
  const store = getPostgreSQLEventStore(url.toString());
  const history = new FleetHistory(seededRandom(task.seed), { units: task.units, lockers: task.lockers });
  const states = new Map<string, UnitState>();
  const startedMs = Date.now();
  let appended = 0;
  while (appended < task.events) {
    for (const commit of history.nextCommits(COMMITS_PER_TAKE)) {
      const events = recordedOf(commit, Date.now());
      await store.appendToStream(`${commit.aggregate}-${commit.unit}`, events);
      for (const event of events) {
        appended += 1;
        const state = states.get(commit.unit) ?? newUnitState(commit.unit);
        states.set(commit.unit, evolveWith(state, event, BigInt(appended)));
      }
    }
  }
  await store.close();
  return { events: appended, recordedAtMs: [startedMs, Date.now()], states };
}

function recordedOf(commit: Append, recordedAtMs: number): Recorded[] {
  const { unit, aggregate } = commit;
  const metadata = { unit, aggregate, recordedAt: toInstant(recordedAtMs) };
  return commit.events.map((event) => ({ type: event.type, data: withoutNul(event), metadata }));
}

/** emmett keeps events as `jsonb`, which has no NUL. */
function withoutNul(event: CloudEvent): CloudEvent {
  const text = JSON.stringify(event, (_, value: unknown) =>
    typeof value === 'string' ? value.replaceAll('\0', '\uFFFD') : value,
  );
  return JSON.parse(text) as CloudEvent;
}

/** The metrics of the projections process. */

import type { Source } from '../../platform/observability/metrics.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import type { Projection } from './projection.ts';
import { listProjections, type ProjectionStatus } from './queries/status.ts';

const FAMILIES = {
  projection_position: gauge('Sequence of the event store up to which the read model shows every event'),
  projection_lag_commits: gauge('Commits of the event store that the read model does not show yet'),
  projection_parked_units: gauge(
    'Units that are parked because an event cannot be applied; above 0, an operator should look at them',
  ),
  projection_rebuild_share: gauge(
    'Share of the event store that a rebuild has applied, 0 to 1; absent while no rebuild runs',
  ),
  projection_rebuild_seconds_left: gauge('Estimated time until a rebuild has caught up, at its mean rate so far'),
  projection_rebuild_failed: gauge('1 after a rebuild has failed, until a later one succeeds; the older run serves'),
  projection_events_applied_total: counter('Events that this process has applied to runs that serve'),
  projection_events_rebuilt_total: counter('Events that this process has applied to runs that are built'),
} as const;

/** Counts applied events by projection. Each counter exists at 0 before the first event, so that its rate is known from the start. */
export class AppliedEvents {
  readonly served: Record<string, number>;
  readonly built: Record<string, number>;

  constructor(projections: readonly Pick<Projection, 'name'>[]) {
    const zeros = () => Object.fromEntries(projections.map(({ name }) => [name, 0]));
    this.served = zeros();
    this.built = zeros();
  }

  add(projection: string, events: number, isBuilding: boolean): void {
    const counts = isBuilding ? this.built : this.served;
    counts[projection] = (counts[projection] ?? 0) + events;
  }
}

/** The counters are those of this process; the gauges are equal in every process that shares the database. */
export function projectionMetrics(
  sql: Sql,
  lastSequence: () => Promise<number>,
  applied: AppliedEvents,
): Source<keyof typeof FAMILIES> {
  return {
    name: 'projections',
    families: FAMILIES,
    async read() {
      const all = await listProjections(sql, lastSequence);
      const each = (value: (status: ProjectionStatus) => number | null | undefined) =>
        Object.fromEntries(
          all.flatMap((status) => {
            const one = value(status);
            return one === null || one === undefined ? [] : [[status.name, one]];
          }),
        );
      return {
        projection_position: each(({ position }) => position),
        projection_lag_commits: each(({ lag }) => lag),
        projection_parked_units: each(({ parkedUnits }) => parkedUnits),
        projection_rebuild_share: each(({ rebuild }) => rebuild?.share),
        projection_rebuild_seconds_left: each(({ rebuild }) => rebuild?.secondsLeft),
        projection_rebuild_failed: each(({ lastEnded }) => (lastEnded?.status === 'failed' ? 1 : 0)),
        projection_events_applied_total: applied.served,
        projection_events_rebuilt_total: applied.built,
      };
    },
  };
}

function gauge(help: string) {
  return { type: 'gauge', help, label: 'projection' } as const;
}

function counter(help: string) {
  return { type: 'counter', help, label: 'projection' } as const;
}

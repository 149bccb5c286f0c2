/** What the projections process tells Prometheus. */

import type { Source } from '../../platform/observability/metrics.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { listProjections, type ProjectionStatus } from './queries/status.ts';

const FAMILIES = {
  projection_position: gauge('Commit of the store up to which everything is shown'),
  projection_lag_commits: gauge('Commits of the store that are not shown yet'),
  projection_parked_units: gauge(
    'Units that wait because of an event that cannot be applied; above 0 somebody should look',
  ),
  projection_rebuild_share: gauge(
    'How much of the store a run that is built has, 0 to 1; without a value there is none',
  ),
  projection_rebuild_seconds_left: gauge('How long the run that is built will take, at its rate so far'),
  projection_rebuild_failed: gauge('1 while the newest run has failed and an older one serves'),
  projection_events_applied_total: counter('Events that this process has applied to runs that serve'),
  projection_events_rebuilt_total: counter('Events that this process has applied to runs that are built'),
} as const;

/** Events by projection. */
export class AppliedEvents {
  readonly served: Record<string, number> = {};
  readonly built: Record<string, number> = {};

  add(projection: string, events: number, isBuilding: boolean): void {
    const counts = isBuilding ? this.built : this.served;
    counts[projection] = (counts[projection] ?? 0) + events;
  }
}

/** All but what was applied is the same for every process that shares the database. */
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

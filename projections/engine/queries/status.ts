/** The status of the read models for operators: the run that serves, a rebuild beside it, and the last rebuild that ended. */

import type { Sql } from '../../../platform/postgres/connection.ts';

const MS_PER_S = 1_000;

/** A run that is built or waits to be started. Times are RFC 3339. */
export interface RebuildStatus {
  readonly runId: number;
  /** `first`: no run serves yet; `version`: the code has a newer version; `request`: an operator requested it. */
  readonly reason: 'first' | 'version' | 'request';
  /** `requested`: no process has started it yet. */
  readonly status: 'requested' | 'building';
  readonly version: number;
  readonly requestedBy: string | null;
  readonly requestedAt: string;
  readonly startedAt: string | null;
  /** Mean position of its lanes. */
  readonly position: number;
  /** Share of the event store that is applied, 0 to 1. */
  readonly share: number;
  /** Number of applied events. */
  readonly events: number;
  /** Mean rate since the start of the rebuild, including times in which no process ran. */
  readonly eventsPerSecond: number;
  /** Estimated from the mean rate; null before the first events are applied. */
  readonly secondsLeft: number | null;
}

export interface ProjectionStatus {
  readonly name: string;
  /** Version of the run that serves, or, while none serves, of the run that is built. */
  readonly version: number;
  /** Null while no run serves. */
  readonly servingSince: string | null;
  /** The read model shows every event up to this position: the lowest position of its lanes. */
  readonly position: number;
  /** Commits of the event store that the read model does not show yet. */
  readonly lag: number;
  /** Number of units that are parked because an event could not be applied. */
  readonly parkedUnits: number;
  readonly rebuild: RebuildStatus | null;
  /** The newest run that failed or was cancelled, if it is newer than the run that serves. */
  readonly lastEnded: { readonly status: 'failed' | 'cancelled'; readonly because: string; readonly at: string } | null;
}

interface Row {
  readonly id: number;
  readonly projection: string;
  readonly version: number;
  readonly status: 'requested' | 'building' | 'serving' | 'failed' | 'cancelled';
  readonly reason: RebuildStatus['reason'];
  readonly requested_by: string | null;
  readonly created_at: Date;
  readonly started_at: Date | null;
  readonly served_at: Date | null;
  readonly ended_at: Date | null;
  readonly ended_because: string | null;
  readonly events: number;
  readonly now: Date;
  readonly min_position: number | null;
  readonly mean_position: number | null;
  readonly parked: number;
}

/**
 * Reads the status of every projection that has a run, ordered by name.
 *
 * @param lastSequence reads the end of the event store; called after the positions are read, so that no position exceeds it
 */
export async function listProjections(sql: Sql, lastSequence: () => Promise<number>): Promise<ProjectionStatus[]> {
  const rows = await sql<Row[]>`
    select r.id, r.projection, r.version, r.status, r.reason, r.requested_by, r.created_at, r.started_at, r.served_at,
      r.ended_at, r.ended_because, r.events, now() as now, c.min_position, c.mean_position,
      (select count(*) from platform.projection_parked p where p.run_id = r.id) as parked
    from platform.projection_runs r
    left join lateral (
      select min(position) as min_position, avg(position)::bigint as mean_position
      from platform.projection_checkpoints c where c.run_id = r.id
    ) c on true
    where r.status in ('requested', 'building', 'serving')
      or (r.status in ('failed', 'cancelled') and r.reason <> 'verification' and r.id = (
        select max(id) from platform.projection_runs o
        where o.projection = r.projection and o.reason <> 'verification'))
    order by r.projection, r.id`;
  const end = await lastSequence();
  return [...Map.groupBy(rows, ({ projection }) => projection)].flatMap(([name, runs]) => statusOf(name, runs, end));
}

function statusOf(name: string, runs: readonly Row[], end: number): ProjectionStatus[] {
  const serving = runs.find(({ status }) => status === 'serving');
  const unfinished = runs.find(({ status }) => status === 'requested' || status === 'building');
  const ended = runs.find(({ status }) => status === 'failed' || status === 'cancelled');
  const described = serving ?? unfinished;
  if (described === undefined) return [];
  const position = serving?.min_position ?? 0;
  return [
    {
      name,
      version: described.version,
      servingSince: (serving?.served_at ?? serving?.created_at)?.toISOString() ?? null,
      position,
      lag: Math.max(0, end - position),
      parkedUnits: described.parked,
      rebuild: unfinished === undefined ? null : rebuildStatusOf(unfinished, end),
      lastEnded: ended === undefined ? null : endOf(ended),
    },
  ];
}

function endOf({ status, ended_because, ended_at, created_at }: Row): ProjectionStatus['lastEnded'] {
  return {
    status: status === 'failed' ? 'failed' : 'cancelled',
    because: ended_because ?? '',
    at: (ended_at ?? created_at).toISOString(),
  };
}

function rebuildStatusOf(run: Row, end: number): RebuildStatus {
  const position = Math.min(run.mean_position ?? 0, end);
  const share = end === 0 ? 1 : position / end;
  const elapsedS = run.started_at === null ? 0 : (run.now.getTime() - run.started_at.getTime()) / MS_PER_S;
  return {
    runId: run.id,
    reason: run.reason,
    status: run.status === 'requested' ? 'requested' : 'building',
    version: run.version,
    requestedBy: run.requested_by,
    requestedAt: run.created_at.toISOString(),
    startedAt: run.started_at?.toISOString() ?? null,
    position,
    share,
    events: run.events,
    eventsPerSecond: elapsedS > 0 ? Math.round(run.events / elapsedS) : 0,
    secondsLeft: position > 0 && elapsedS > 0 ? Math.ceil((elapsedS * (end - position)) / position) : null,
  };
}

export interface RunStatus {
  readonly projection: string;
  readonly version: number;
  readonly schema: string;
  readonly status: 'requested' | 'building' | 'serving' | 'verifying';
  /** The lowest and the highest position of its lanes. */
  readonly minPosition: number;
  readonly maxPosition: number;
  /** Number of units that are parked because an event could not be applied. */
  readonly parkedUnits: number;
}

/** Reads all runs that have not ended, ordered by projection. */
export async function runStatus(sql: Sql): Promise<RunStatus[]> {
  return sql<RunStatus[]>`
    select r.projection, r.version, r.schema_name as schema, r.status,
      coalesce(min(c.position), 0) as "minPosition", coalesce(max(c.position), 0) as "maxPosition",
      (select count(*) from platform.projection_parked p where p.run_id = r.id) as "parkedUnits"
    from platform.projection_runs r left join platform.projection_checkpoints c on c.run_id = r.id
    where r.status in ('requested', 'building', 'serving', 'verifying')
    group by r.id order by r.projection, r.id`;
}

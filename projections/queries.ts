/** Which read models the code needs, and which of them serve. */

import { createProjections } from './create-projections.ts';
import type { ReadModels } from './engine/queries/serving-runs.ts';

export interface UnservedReadModel {
  readonly name: string;
  /** Why it does not serve, in sentences for operators. */
  readonly reason: string;
}

interface Run {
  readonly id: number;
  readonly projection: string;
  readonly version: number;
  readonly status: 'requested' | 'building' | 'serving' | 'failed' | 'cancelled';
}

/**
 * The read models that do not serve in the version that this code reads: those of a new database, and, after an upgrade, those whose new
 * version is still being built. Rows of another version may lack columns or mean something else. @throws PostgresUnavailableError
 */
export async function unservedReadModels({ sql }: Pick<ReadModels, 'sql'>): Promise<UnservedReadModel[]> {
  const runs = await sql<Run[]>`
    select distinct on (projection, version, status) id, projection, version, status
    from platform.projection_runs
    where status in ('requested', 'building', 'serving', 'failed', 'cancelled') and reason <> 'verification'
    order by projection, version, status, id desc`;
  return createProjections().flatMap((needed) => {
    const ofProjection = runs.filter(({ projection }) => projection === needed.name);
    const serving = ofProjection.find(({ status }) => status === 'serving');
    if (serving?.version === needed.version) return [];
    return [{ name: needed.name, reason: reasonOf(needed, serving, ofProjection) }];
  });
}

function reasonOf(
  { name, version }: { readonly name: string; readonly version: number },
  serving: Run | undefined,
  runs: readonly Run[],
): string {
  const state =
    serving === undefined
      ? `The read model ${name} has no run that serves, and this code reads version ${version}.`
      : `The read model ${name} serves version ${serving.version}, and this code reads version ${version}.`;
  if (serving !== undefined && serving.version > version)
    return `${state} A newer version of the code has replaced it: upgrade this server.`;
  const newest = runs.filter((run) => run.version === version).toSorted((a, b) => b.id - a.id)[0];
  switch (newest?.status) {
    case 'building':
      return `${state} Its run ${newest.id} of version ${version} is being built.`;
    case 'requested':
      return `${state} Its run ${newest.id} of version ${version} waits for a projections process.`;
    case 'failed':
    case 'cancelled':
      return `${state} Its run ${newest.id} of version ${version} was ${newest.status === 'failed' ? 'given up after an error' : 'cancelled'}: see GET /v1/projections.`;
    default:
      return `${state} No run of version ${version} has begun: start a projections process of this version.`;
  }
}

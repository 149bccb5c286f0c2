/** Which read models the code needs, and which of them serve. */

import { createProjections } from './create-projections.ts';
import type { ReadModels } from './engine/queries/serving-runs.ts';

/**
 * The read models that do not serve in the version that this code reads: those of a new database, and, after an upgrade, those whose new
 * version is still being built. Rows of another version may lack columns or mean something else. @throws PostgresUnavailableError
 */
export async function unservedReadModels({ sql }: Pick<ReadModels, 'sql'>): Promise<string[]> {
  const rows = await sql<{ projection: string; version: number }[]>`
    select projection, version from platform.projection_runs where status = 'serving'`;
  const served = new Map(rows.map(({ projection, version }) => [projection, version]));
  return createProjections().flatMap(({ name, version }) => (served.get(name) === version ? [] : [name]));
}

/** What a process fills: shares of runs, and the reader groups that they make. */

import type { Projection } from './projection.ts';
import type { Run } from './runs/runs.ts';

/** One run with the lanes of it that this process owns: the work of one filler. */
export interface Share {
  readonly run: Run;
  readonly projection: Projection;
  readonly lanes: readonly number[];
}

/** One group for all runs that serve, and one for each run that is built; by the key of their shares. */
export function desiredGroups(shares: readonly Share[]): Map<string, readonly Share[]> {
  const serving = shares.filter(({ run }) => run.status === 'serving');
  const building = shares.filter(({ run }) => run.status === 'building');
  const groups = [...(serving.length > 0 ? [serving] : []), ...building.map((share) => [share])];
  return new Map(groups.map((group) => [group.map(keyOf).join(' '), group]));
}

/** Changes when a group with this share must be stopped and started again. */
function keyOf({ run, lanes }: Share): string {
  return `${run.id} ${run.status} ${lanes.join()}`;
}

import { Elysia } from 'elysia';
import { toInstant } from '../../../domain/vocabulary.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { activePingers } from '../../../projections/telemetry/queries.ts';
import { stateCounts } from '../../../projections/units/queries/units.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { GET_PINGERS } from './schema.ts';

export interface PingerRouteDependencies {
  readonly readModels: ReadModels;
}

export function pingerRoutes(macros: ApiMacros, { readModels }: PingerRouteDependencies) {
  return new Elysia({ prefix: '/v1/pinger' }).use(macros).get(
    '',
    async () => {
      const [{ owners, unwatched, outages }, states] = await Promise.all([
        activePingers(readModels.sql),
        stateCounts(readModels),
      ]);
      return {
        owners: owners.map((owner) => ({ ...owner, at: toInstant(owner.at) })),
        unwatched,
        outages,
        states,
        flapping: owners.reduce((sum, { flapping }) => sum + flapping, 0),
        scheduleLagMs: {
          p99: Math.max(0, ...owners.map(({ scheduleLagMs }) => scheduleLagMs.p99)),
          max: Math.max(0, ...owners.map(({ scheduleLagMs }) => scheduleLagMs.max)),
        },
        rates: sumByName(owners.map(({ rates }) => rates)),
      };
    },
    GET_PINGERS,
  );
}

function sumByName(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const figures of all)
    for (const [name, value] of Object.entries(figures)) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}

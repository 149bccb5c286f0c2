import { Elysia } from 'elysia';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { parkedUnit, parkedUnits, requestRetry } from '../../../projections/engine/queries/parked.ts';
import { cancelRebuild, requestRebuild } from '../../../projections/engine/queries/rebuilds.ts';
import { listProjections, type ProjectionStatus } from '../../../projections/engine/queries/status.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { Problem } from '../../http/problems.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import { CANCEL_REBUILD, LIST_PARKED_UNITS, LIST_PROJECTIONS, REQUEST_REBUILD, RETRY_PARKED_UNIT } from './schema.ts';

export interface ProjectionRouteDependencies {
  readonly postgres: Postgres;
  /** The last sequence of the event store. */
  readonly lastSequence: () => Promise<number>;
}

export function projectionRoutes(macros: ApiMacros, { postgres, lastSequence }: ProjectionRouteDependencies) {
  const { sql } = postgres;
  const list = () => listProjections(sql, lastSequence);
  const find = async (name: string): Promise<ProjectionStatus> => {
    const found = (await list()).find((projection) => projection.name === name);
    if (found === undefined) throw new Problem('not-found', 404, `There is no projection ${name}.`);
    return found;
  };
  return new Elysia({ prefix: '/v1/projections' })
    .use(macros)
    .get('', async () => ({ items: await list(), nextCursor: null }), LIST_PROJECTIONS)
    .post(
      '/:name/rebuild',
      ({ caller, write, params: { name } }) =>
        write(async () => {
          await requestRebuild(postgres, name, caller.actor);
          return { status: 202, body: await find(name) };
        }),
      REQUEST_REBUILD,
    )
    .delete(
      '/:name/rebuild',
      ({ caller, write, params: { name } }) =>
        write(async () => {
          await find(name);
          requireCancelled(name, await cancelRebuild(postgres, name, caller.actor));
          return { status: 200, body: await find(name) };
        }),
      CANCEL_REBUILD,
    )
    .get(
      '/:name/parked',
      async ({ params: { name }, query: { limit = DEFAULT_LIMIT, ...page } }) => {
        await find(name);
        return parkedUnits(sql, name, { limit, ...page });
      },
      LIST_PARKED_UNITS,
    )
    .post(
      '/:name/parked/:unit/retry',
      ({ write, params: { name, unit } }) =>
        write(async () => {
          const body = (await requestRetry(sql, name, unit)) ? await parkedUnit(sql, name, unit) : undefined;
          if (body === undefined) throw new Problem('not-found', 404, `Unit ${unit} is not parked in ${name}.`);
          return { status: 202, body };
        }),
      RETRY_PARKED_UNIT,
    );
}

function requireCancelled(name: string, outcome: Awaited<ReturnType<typeof cancelRebuild>>): void {
  if (outcome === 'none') throw new Problem('not-found', 404, `No rebuild of ${name} runs. Nothing was changed.`);
  if (outcome === 'needed') {
    throw new Problem(
      'precondition-failed',
      409,
      `The rebuild of ${name} brings a newer version of the code, which would begin it again. Deploy the former code to end it.`,
    );
  }
}

import { Elysia } from 'elysia';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { parkedUnit, parkedUnits, requestRetry } from '../../../projections/engine/queries/parked.ts';
import { cancelRebuild, requestRebuild } from '../../../projections/engine/queries/rebuilds.ts';
import { listProjections, type ProjectionStatus } from '../../../projections/engine/queries/status.ts';
import { Problem } from '../../http/problems.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Writes } from '../../http/writes.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { CANCEL, LIST, PARKED, REBUILD, RETRY } from './contract.ts';

const OK = 200;
const ACCEPTED = 202;

export interface ProjectionRouteDependencies {
  readonly authenticator: Authenticator;
  readonly writes: Writes;
  readonly postgres: Postgres;
  /** The end of the event store. */
  readonly lastSequence: () => Promise<number>;
}

export function projectionRoutes({ authenticator, writes, postgres, lastSequence }: ProjectionRouteDependencies) {
  const { sql } = postgres;
  const all = () => listProjections(sql, lastSequence);
  const one = async (name: string): Promise<ProjectionStatus> => {
    const found = (await all()).find((projection) => projection.name === name);
    if (found === undefined) throw new Problem('not-found', 404, `There is no projection ${name}.`);
    return found;
  };
  return new Elysia({ prefix: '/v1/projections' })
    .derive(async ({ headers }) => {
      const principal = await authenticator.authenticate(headers.authorization, 'ops');
      return { principal, actor: `ops:${principal.sub}` };
    })
    .get('', async () => ({ items: await all(), nextCursor: null }), LIST)
    .post(
      '/:name/rebuild',
      ({ principal, actor, headers, params: { name }, path, set }) =>
        writes.run({ principal, route: `POST ${path}`, key: headers['idempotency-key'], body: null }, set, async () => {
          await requestRebuild(postgres, name, actor);
          return { status: ACCEPTED, body: await one(name) };
        }),
      REBUILD,
    )
    .delete(
      '/:name/rebuild',
      ({ principal, actor, headers, params: { name }, path, set }) =>
        writes.run(
          { principal, route: `DELETE ${path}`, key: headers['idempotency-key'], body: null },
          set,
          async () => {
            await one(name);
            requireCancelled(name, await cancelRebuild(postgres, name, actor));
            return { status: OK, body: await one(name) };
          },
        ),
      CANCEL,
    )
    .get(
      '/:name/parked',
      async ({ params: { name }, query: { limit = DEFAULT_LIMIT, ...page } }) => {
        await one(name);
        return parkedUnits(sql, name, { limit, ...page });
      },
      PARKED,
    )
    .post(
      '/:name/parked/:unit/retry',
      ({ principal, headers, params: { name, unit }, path, set }) =>
        writes.run({ principal, route: `POST ${path}`, key: headers['idempotency-key'], body: null }, set, async () => {
          const body = (await requestRetry(sql, name, unit)) ? await parkedUnit(sql, name, unit) : undefined;
          if (body === undefined) throw new Problem('not-found', 404, `${unit} is not parked in ${name}.`);
          return { status: ACCEPTED, body };
        }),
      RETRY,
    );
}

function requireCancelled(name: string, outcome: Awaited<ReturnType<typeof cancelRebuild>>): void {
  if (outcome === 'none') throw new Problem('not-found', 404, `${name} is not being rebuilt.`);
  if (outcome === 'needed') {
    throw new Problem('precondition-failed', 409, `The code needs this run of ${name}: it would begin it again.`);
  }
}

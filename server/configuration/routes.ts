import { Elysia } from 'elysia';
import type { Sql } from '../../platform/postgres/connection.ts';
import {
  configurationAttempts,
  configurationVersion,
  configurationVersions,
} from '../../projections/configuration/queries.ts';
import type { Guard } from '../auth/guard.ts';
import { Problem } from '../http/problems.ts';
import { DEFAULT_LIMIT, type Reads } from '../http/reads.ts';
import type { Writes } from '../http/writes.ts';
import { CHANGE, GET_CONFIGURATION, GET_VERSION, LIST_ATTEMPTS, LIST_VERSIONS, ROLL_BACK } from './contract.ts';
import type { Configurations } from './handlers.ts';
import type { ConfigurationView } from './schema.ts';

export interface ConfigurationRouteDependencies {
  readonly guard: Guard;
  readonly writes: Writes;
  readonly reads: Reads;
  readonly configurations: Configurations;
  readonly sql: Sql;
}

export function configurationRoutes(deps: ConfigurationRouteDependencies) {
  const { guard, writes, reads, configurations, sql } = deps;
  return new Elysia({ prefix: '/v1/units/:name/config' })
    .derive(async ({ headers }) => {
      const principal = await guard.require(headers.authorization, 'ops');
      return { principal, actor: `ops:${principal.sub}` };
    })
    .put(
      '',
      async ({ principal, actor, headers, path, params: { name }, body, set }) => {
        const expectedVersion = versionIn(headers['if-match']);
        const write = { principal, route: `PUT ${path}`, key: headers['idempotency-key'], body: { ...body, expectedVersion } };
        return tagged(
          set,
          await writes.run(write, set, (commandId) =>
            configurations.change({ commandId, actor, name, expectedVersion }, body),
          ),
        );
      },
      CHANGE,
    )
    .post(
      '/rollback',
      async ({ principal, actor, headers, path, params: { name }, body, set }) => {
        const expectedVersion = versionIn(headers['if-match']);
        const write = { principal, route: `POST ${path}`, key: headers['idempotency-key'], body: { ...body, expectedVersion } };
        return tagged(
          set,
          await writes.run(write, set, (commandId) =>
            configurations.rollBack({ commandId, actor, name, expectedVersion }, body),
          ),
        );
      },
      ROLL_BACK,
    )
    .get(
      '',
      async ({ params: { name }, query: { minPosition }, set }) => {
        await reads.wait('units', minPosition, name);
        return tagged(set, await configurations.view(name));
      },
      GET_CONFIGURATION,
    )
    .get(
      '/versions',
      async ({ params: { name }, query: { minPosition, limit = DEFAULT_LIMIT, ...page } }) => {
        await reads.wait('configuration', minPosition, name);
        await requireUnit(sql, name);
        return configurationVersions(sql, { ...page, unit: name, limit });
      },
      LIST_VERSIONS,
    )
    .get(
      '/versions/:version',
      async ({ params: { name, version }, query: { minPosition } }) => {
        await reads.wait('configuration', minPosition, name);
        const found = await configurationVersion(sql, name, Number(version));
        if (found === undefined) throw new Problem('not-found', 404, 'There is no such unit, or no such version of it.');
        return found;
      },
      GET_VERSION,
    )
    .get(
      '/attempts',
      async ({ params: { name }, query: { minPosition, limit = DEFAULT_LIMIT, ...page } }) => {
        await reads.wait('configuration', minPosition, name);
        await requireUnit(sql, name);
        return configurationAttempts(sql, { ...page, unit: name, limit });
      },
      LIST_ATTEMPTS,
    );
}

/** Every unit has a first version. */
async function requireUnit(sql: Sql, name: string): Promise<void> {
  const first = await configurationVersion(sql, name, 1);
  if (first === undefined) throw new Problem('not-found', 404, 'There is no such unit.');
}

/** The version that `If-Match` names; `undefined` without one, and for `*`. */
function versionIn(ifMatch: string | undefined): number | undefined {
  return ifMatch === undefined || ifMatch === '*' ? undefined : Number(ifMatch.slice(1, -1));
}

/** Names the version that is wanted in the `ETag` of an answer that shows it. */
function tagged<T>(set: { headers: Record<string, string | number | readonly string[] | undefined> }, answer: T): T {
  const desired = (answer as Partial<ConfigurationView>).desired;
  if (desired !== undefined) set.headers.etag = `"${desired.version}"`;
  return answer;
}

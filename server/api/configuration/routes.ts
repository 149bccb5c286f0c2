import { Elysia } from 'elysia';
import {
  configurationAttempts,
  configurationVersion,
  configurationVersions,
} from '../../../projections/configuration/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem } from '../../http/problems.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Writes } from '../../http/writes.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { CHANGE, GET_CONFIGURATION, GET_VERSION, LIST_ATTEMPTS, LIST_VERSIONS, ROLL_BACK } from './contract.ts';
import type { ConfigurationCommand, Configurations } from './handlers.ts';
import type { ConfigurationView } from './schema.ts';

export interface ConfigurationRouteDependencies {
  readonly authenticator: Authenticator;
  readonly writes: Writes;
  readonly positions: ReadPositions;
  readonly configurations: Configurations;
  readonly readModels: ReadModels;
}

export function configurationRoutes(deps: ConfigurationRouteDependencies) {
  const { authenticator, writes, positions, configurations, readModels } = deps;
  return new Elysia({ prefix: '/v1/units/:name/config' })
    .derive(async ({ request, headers, path, set }) => {
      const principal = await authenticator.authenticate(headers.authorization, 'ops');
      /** A change under its key, answered with the tag of the version that is wanted then. */
      const write = async (name: string, body: object, change: (command: ConfigurationCommand) => Promise<Answer>) => {
        const expectedVersion = versionIn(headers['if-match']);
        const route = `${request.method} ${path}`;
        const asked = { principal, route, key: headers['idempotency-key'], body: { ...body, expectedVersion } };
        const answer = await writes.run(asked, set, (commandId) =>
          change({ commandId, actor: `ops:${principal.sub}`, name, expectedVersion }),
        );
        return tagged(set, answer);
      };
      return { write };
    })
    .put(
      '',
      ({ params: { name }, body, write }) => write(name, body, (command) => configurations.change(command, body)),
      CHANGE,
    )
    .post(
      '/rollback',
      ({ params: { name }, body, write }) => write(name, body, (command) => configurations.rollBack(command, body)),
      ROLL_BACK,
    )
    .get(
      '',
      async ({ params: { name }, query: { minPosition }, set }) => {
        await positions.reached('units', minPosition, name);
        return tagged(set, await configurations.view(name));
      },
      GET_CONFIGURATION,
    )
    .get(
      '/versions',
      async ({ params: { name }, query: { minPosition, limit = DEFAULT_LIMIT, ...page } }) => {
        await positions.reached('configuration', minPosition, name);
        await requireUnit(readModels, name);
        return configurationVersions(readModels, { ...page, unit: name, limit });
      },
      LIST_VERSIONS,
    )
    .get(
      '/versions/:version',
      async ({ params: { name, version }, query: { minPosition } }) => {
        await positions.reached('configuration', minPosition, name);
        const found = await configurationVersion(readModels, name, Number(version));
        if (found === undefined)
          throw new Problem('not-found', 404, 'There is no such unit, or no such version of it.');
        return found;
      },
      GET_VERSION,
    )
    .get(
      '/attempts',
      async ({ params: { name }, query: { minPosition, limit = DEFAULT_LIMIT, ...page } }) => {
        await positions.reached('configuration', minPosition, name);
        await requireUnit(readModels, name);
        return configurationAttempts(readModels, { ...page, unit: name, limit });
      },
      LIST_ATTEMPTS,
    );
}

/** Every unit has a first version. */
async function requireUnit(readModels: ReadModels, name: string): Promise<void> {
  const first = await configurationVersion(readModels, name, 1);
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

import { Elysia } from 'elysia';
import {
  configurationAttempts,
  configurationVersion,
  configurationVersions,
  isConfigured,
} from '../../../projections/configuration/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { etagOf, versionIn } from '../../http/etags.ts';
import { Problem } from '../../http/problems.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { ConfigurationService } from './configuration-service.ts';
import {
  CHANGE_CONFIGURATION,
  GET_CONFIGURATION,
  GET_VERSION,
  LIST_ATTEMPTS,
  LIST_VERSIONS,
  ROLL_BACK_CONFIGURATION,
} from './schema.ts';

export interface ConfigurationRouteDependencies {
  readonly configurations: ConfigurationService;
  readonly readModels: ReadModels;
}

export function configurationRoutes(macros: ApiMacros, { configurations, readModels }: ConfigurationRouteDependencies) {
  return new Elysia({ prefix: '/v1/units/:name/config' })
    .use(macros)
    .put(
      '',
      async ({ caller, write, headers, params: { name }, body, set }) => {
        const expectedVersion = versionIn(headers['if-match']);
        const answered = await write((commandId) =>
          configurations.change({ commandId, actor: caller.actor, name, expectedVersion }, body),
        );
        set.headers.etag = etagOf(answered.response.desired.version);
        return answered;
      },
      CHANGE_CONFIGURATION,
    )
    .post(
      '/rollback',
      async ({ caller, write, headers, params: { name }, body, set }) => {
        const expectedVersion = versionIn(headers['if-match']);
        const answered = await write((commandId) =>
          configurations.rollBack({ commandId, actor: caller.actor, name, expectedVersion }, body),
        );
        set.headers.etag = etagOf(answered.response.desired.version);
        return answered;
      },
      ROLL_BACK_CONFIGURATION,
    )
    .get(
      '',
      async ({ params: { name }, set }) => {
        const view = await configurations.view(name);
        set.headers.etag = etagOf(view.desired.version);
        return view;
      },
      GET_CONFIGURATION,
    )
    .get(
      '/versions',
      async ({ params: { name }, query: { minPosition: _, limit = DEFAULT_LIMIT, ...page } }) => {
        await requireUnit(readModels, name);
        return configurationVersions(readModels, { ...page, unit: name, limit });
      },
      LIST_VERSIONS,
    )
    .get(
      '/versions/:version',
      async ({ params: { name, version } }) => {
        const found = await configurationVersion(readModels, name, Number(version));
        if (found === undefined)
          throw new Problem('not-found', 404, `There is no unit ${name} with a version ${version}.`);
        return found;
      },
      GET_VERSION,
    )
    .get(
      '/attempts',
      async ({ params: { name }, query: { minPosition: _, limit = DEFAULT_LIMIT, ...page } }) => {
        await requireUnit(readModels, name);
        return configurationAttempts(readModels, { ...page, unit: name, limit });
      },
      LIST_ATTEMPTS,
    );
}

async function requireUnit(readModels: ReadModels, name: string): Promise<void> {
  if (!(await isConfigured(readModels, name))) throw new Problem('not-found', 404, `There is no unit ${name}.`);
}

import { Elysia } from 'elysia';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { responseTimes } from '../../../projections/telemetry/queries.ts';
import { getUnit, listUnits } from '../../../projections/units/queries/units.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { etagOf, versionIn } from '../../http/etags.ts';
import { Problem } from '../../http/problems.ts';
import { NDJSON } from '../../http/request-body.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import { RETIRE, UPDATE } from './changes-schema.ts';
import { GET_ONE, IMPORT, LIST, REGISTER, REVOKE_CREDENTIALS, ROTATE_CREDENTIALS } from './schema.ts';
import type { UnitChanges } from './unit-changes.ts';
import type { UnitCredentials } from './unit-credentials.ts';
import type { UnitRegistration } from './unit-registration.ts';

export interface UnitRouteDependencies {
  readonly registration: UnitRegistration;
  readonly credentials: UnitCredentials;
  readonly changes: UnitChanges;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly readModels: ReadModels;
}

export function unitRoutes(
  macros: ApiMacros,
  { registration, credentials, changes, readModels, clock }: UnitRouteDependencies,
) {
  return new Elysia({ prefix: '/v1/units' })
    .use(macros)
    .post(
      '',
      ({ caller, write, body }) => write((commandId) => registration.register(commandId, caller.actor, body)),
      REGISTER,
    )
    .post(
      '/import',
      ({ caller, headers, request }) => {
        if (!headers['content-type']?.startsWith(NDJSON)) {
          throw new Problem('validation', 415, `The body must be lines of JSON, with Content-Type: ${NDJSON}.`);
        }
        const lines = registration.import(caller.actor, request);
        return new Response(textStream(lines), { headers: { 'content-type': NDJSON } });
      },
      IMPORT,
    )
    .post(
      '/:name/credentials/rotate',
      ({ caller, write, params: { name } }) =>
        write((commandId) => credentials.rotate({ commandId, actor: caller.actor, name })),
      ROTATE_CREDENTIALS,
    )
    .post(
      '/:name/credentials/revoke',
      ({ caller, write, params: { name }, body }) =>
        write((commandId) => credentials.revoke({ commandId, actor: caller.actor, name }, body?.reason)),
      REVOKE_CREDENTIALS,
    )
    .get(
      '',
      ({ query: { minPosition: _, limit = DEFAULT_LIMIT, ...filter } }) => listUnits(readModels, { ...filter, limit }),
      LIST,
    )
    .get(
      '/:name',
      async ({ params: { name }, set }) => {
        const [unit, times] = await Promise.all([
          getUnit(readModels, name, clock()),
          responseTimes(readModels.sql, name),
        ]);
        if (unit === undefined) throw new Problem('not-found', 404, `There is no unit ${name}.`);
        set.headers.etag = etagOf(unit.revision);
        return { ...unit, responseTimes: times };
      },
      GET_ONE,
    )
    .patch(
      '/:name',
      async ({ caller: { actor }, write, headers, params: { name }, body, set }) => {
        const expectedRevision = versionIn(headers['if-match']);
        const answered = await write((commandId) => changes.update({ commandId, actor, name }, body, expectedRevision));
        set.headers.etag = etagOf(answered.response.revision);
        return answered;
      },
      UPDATE,
    )
    .delete(
      '/:name',
      ({ caller: { actor }, write, params: { name }, query: { force = false, reason } }) =>
        write((commandId) => changes.retire({ commandId, actor, name }, { reason, isForced: force })),
      RETIRE,
    );
}

function textStream(lines: AsyncIterable<string>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const iterator = lines[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done === true) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}

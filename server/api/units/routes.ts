import { Elysia } from 'elysia';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { responseTimes } from '../../../projections/telemetry/queries.ts';
import { getUnit, listUnits } from '../../../projections/units/queries.ts';
import { NDJSON } from '../../http/body.ts';
import { Problem } from '../../http/problems.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Writes } from '../../http/writes.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { GET_ONE, IMPORT, LIST, REGISTER, REVOKE_CREDENTIALS, ROTATE_CREDENTIALS } from './contract.ts';
import type { UnitCredentials } from './credentials.ts';
import type { UnitRegistration } from './register.ts';

export interface UnitRouteDependencies {
  readonly authenticator: Authenticator;
  readonly writes: Writes;
  readonly positions: ReadPositions;
  readonly registration: UnitRegistration;
  readonly credentials: UnitCredentials;
  readonly readModels: ReadModels;
}

export function unitRoutes(deps: UnitRouteDependencies) {
  const { authenticator, writes, positions, registration, credentials, readModels } = deps;
  return new Elysia({ prefix: '/v1/units' })
    .derive(async ({ headers }) => {
      const principal = await authenticator.authenticate(headers.authorization, 'ops');
      return { principal, actor: `ops:${principal.sub}` };
    })
    .post(
      '',
      ({ principal, actor, headers, body, set }) =>
        writes.run({ principal, route: 'POST /v1/units', key: headers['idempotency-key'], body }, set, (commandId) =>
          registration.register(commandId, actor, body),
        ),
      REGISTER,
    )
    .post(
      '/import',
      ({ actor, headers, request }) => {
        if (!headers['content-type']?.startsWith(NDJSON)) {
          throw new Problem('validation', 415, `The body must be lines of JSON, with Content-Type: ${NDJSON}.`);
        }
        return new Response(textStream(registration.import(actor, request)), { headers: { 'content-type': NDJSON } });
      },
      IMPORT,
    )
    .post(
      '/:name/credentials/rotate',
      ({ principal, actor, headers, path, params: { name }, set }) =>
        writes.run(
          { principal, route: `POST ${path}`, key: headers['idempotency-key'], body: null },
          set,
          (commandId) => credentials.rotate({ commandId, actor, name }),
        ),
      ROTATE_CREDENTIALS,
    )
    .post(
      '/:name/credentials/revoke',
      ({ principal, actor, headers, path, params: { name }, body, set }) => {
        const said = body ?? {};
        const write = { principal, route: `POST ${path}`, key: headers['idempotency-key'], body: said };
        return writes.run(write, set, (commandId) => credentials.revoke({ commandId, actor, name }, said.reason));
      },
      REVOKE_CREDENTIALS,
    )
    .get(
      '',
      async ({ query: { minPosition, limit = DEFAULT_LIMIT, ...filter } }) => {
        await positions.reached('units', minPosition);
        return listUnits(readModels, { ...filter, limit });
      },
      LIST,
    )
    .get(
      '/:name',
      async ({ params: { name }, query }) => {
        await positions.reached('units', query.minPosition, name);
        const [unit, times] = await Promise.all([getUnit(readModels, name), responseTimes(readModels.sql, name)]);
        if (unit === undefined) throw new Problem('not-found', 404, 'There is no such unit.');
        return { ...unit, responseTimes: times };
      },
      GET_ONE,
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

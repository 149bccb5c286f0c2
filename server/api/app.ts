/** Composes the REST API: services, routes, the parsing of requests, and the answers to errors. */

import { Elysia, NotFoundError } from 'elysia';
import type { TokenVerifier } from '../../platform/auth/tokens.ts';
import type { PlatformKeys } from '../../platform/credentials/keys.ts';
import type { ReservationSecrets } from '../../platform/credentials/reservation-secrets.ts';
import type { UnitRevocations } from '../../platform/credentials/revocations.ts';
import type { AddressResolver } from '../../platform/network/address-resolver.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { ParkedWorkStore } from '../../platform/parked-work/parked-work-store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import type { DeadLetterStore } from '../../platform/unit-log/dead-letter-store.ts';
import type { UnitLogClient } from '../../platform/unit-log/unit-log-client.ts';
import type { UnitLogRecorder } from '../../platform/unit-log/unit-log-recorder.ts';
import type { ConfigurationPusher } from '../../platform/units/configuration-pusher.ts';
import type { UnitCommandClient } from '../../platform/units/unit-command-client.ts';
import type { UnitDecider, UnitSnapshot } from '../../platform/units/unit-decider.ts';
import type { PositionWaiter } from '../../projections/engine/queries/position-waiter.ts';
import type { ReadModels } from '../../projections/engine/queries/serving-runs.ts';
import { AnswerCheck } from '../http/answer-check.ts';
import { apiMacros } from '../http/api-macros.ts';
import { ExportStreams } from '../http/export-streams.ts';
import { answerHead } from '../http/head.ts';
import type { IdempotencyStore } from '../http/idempotency-store.ts';
import { IdempotentWrites } from '../http/idempotent-writes.ts';
import { answeredProblem, problemResponse } from '../http/problems.ts';
import { parseQueryValues } from '../http/query-values.ts';
import { ReadPositions } from '../http/read-positions.ts';
import { NDJSON, readJson } from '../http/request-body.ts';
import { requireStorableQuery } from '../http/storable-text.ts';
import { ApiKeys } from './api-keys/api-keys.ts';
import { apiKeyRoutes } from './api-keys/routes.ts';
import { asyncApiRoutes } from './asyncapi/routes.ts';
import { Authenticator } from './auth/authenticator.ts';
import { Customers } from './auth/customers.ts';
import { availabilityRoutes } from './availability/routes.ts';
import { RolloutService } from './config-rollouts/rollout-service.ts';
import { rolloutRoutes } from './config-rollouts/routes.ts';
import { ConfigurationService } from './configuration/configuration-service.ts';
import { configurationRoutes } from './configuration/routes.ts';
import { DeadLetterService } from './dead-letters/dead-letter-service.ts';
import { deadLetterRoutes } from './dead-letters/routes.ts';
import { eventRoutes } from './events/routes.ts';
import { type HealthChecks, healthRoutes } from './health/routes.ts';
import { historyRoutes } from './history/routes.ts';
import { UnitHistory } from './history/unit-history.ts';
import { swaggerRoutes } from './openapi/swagger.ts';
import { workRoutes } from './parked-work/routes.ts';
import { pingerRoutes } from './pinger/routes.ts';
import { projectionRoutes } from './projections/routes.ts';
import { ReservationService } from './reservations/reservation-service.ts';
import { ReservationSupport } from './reservations/reservation-support.ts';
import { reservationRoutes } from './reservations/routes.ts';
import { summaryRoutes } from './summary/routes.ts';
import { lockerRoutes } from './units/locker-routes.ts';
import { unitRoutes } from './units/routes.ts';
import { UnitChanges } from './units/unit-changes.ts';
import { UnitCredentials } from './units/unit-credentials.ts';
import { UnitLockers } from './units/unit-lockers.ts';
import { UnitRegistration } from './units/unit-registration.ts';

/** The server closes a connection on which nothing was sent for this long. */
const IDLE_TIMEOUT_S = 30;
/** Bun refuses larger bodies before a route sees them. Imports are streams of any length, so that this is only a last bound. */
const MAX_STREAM_BYTES = 1024 * 1024 * 1024;

/** What the API takes from the process that it runs in. */
export interface ApiDependencies {
  /** Verifies the tokens of customers and operators. */
  readonly tokens: TokenVerifier;
  readonly keys: PlatformKeys;
  readonly secrets: ReservationSecrets;
  readonly postgres: Postgres;
  readonly readModels: ReadModels;
  /** Sessions that read pages of the event log. */
  readonly eventLog: ReadModels;
  readonly idempotency: IdempotencyStore;
  readonly positions: PositionWaiter;
  readonly decider: UnitDecider;
  /** A unit's state in the read model `bookings`. */
  readonly loadSnapshot: (unit: string) => Promise<UnitSnapshot>;
  /** The last sequence of the event store. */
  readonly lastSequence: () => Promise<number>;
  readonly commands: UnitCommandClient;
  readonly unitLogClient: UnitLogClient;
  readonly push: ConfigurationPusher;
  readonly revocations: UnitRevocations;
  readonly recorder: UnitLogRecorder;
  readonly deadLetterStore: DeadLetterStore;
  readonly parkedWork: ParkedWorkStore;
  readonly addresses: AddressResolver;
  /** The NATS that units connect to. */
  readonly natsUrl: string;
  readonly holdTtlS: number;
  /** What `/readyz` asks. */
  readonly checks: HealthChecks;
  /** Called with the status of every answer. */
  readonly onAnswer: (status: number) => void;
  /** Whether the API compares every answer with its documentation and replaces one that differs by a 500. Tests set it. */
  readonly checkAnswers: boolean;
  readonly newId: () => string;
  readonly randomBytes: (count: number) => Uint8Array;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly log: Log;
}

/** Composes the API. The result answers requests once it listens. */
export function api(dependencies: ApiDependencies) {
  const { checks, checkAnswers, onAnswer, log } = dependencies;
  let get: ((request: Request) => Promise<Response>) | undefined;
  const app = new Elysia({
    // A field that a schema does not name is refused, not dropped.
    normalize: false,
    serve: { idleTimeout: IDLE_TIMEOUT_S, maxRequestBodySize: MAX_STREAM_BYTES },
  })
    .onParse({ as: 'global' }, ({ request }, contentType) => (contentType === NDJSON ? undefined : readJson(request)))
    .onTransform({ as: 'global' }, ({ query }) => {
      requireStorableQuery(query);
      parseQueryValues(query);
    })
    .onError({ as: 'global' }, async ({ error, request, set }) => {
      const isHead = request.method === 'HEAD' && error instanceof NotFoundError;
      const response =
        isHead && get !== undefined
          ? await answerHead(request, get)
          : problemResponse(answeredProblem(error, request, log));
      // `onAfterResponse` does not see the response of an error, only its status here.
      set.status = response.status;
      return response;
    })
    .onAfterResponse({ as: 'global' }, ({ set, responseValue }) => onAnswer(statusOf(responseValue, set.status)))
    // The root leads to the documentation until there is a console.
    .get('/', ({ redirect }) => redirect('/swagger'), { detail: { hide: true } })
    .use(swaggerRoutes())
    .use(asyncApiRoutes())
    .use(healthRoutes(checks, log))
    .use(capabilities(dependencies));
  get = (request) => app.handle(request);
  if (!checkAnswers) return app;
  const check = new AnswerCheck(() => app.routes, log);
  return app.wrap((handle) => {
    // Elysia's type of `handle` is `Function`, which names neither the request that it receives nor the response that it returns.
    const respond: (request: Request) => unknown = handle;
    return async (request: Request) => check.check(request, await respond(request));
  });
}

/** The routes that need a token, with the services behind them. */
function capabilities(dependencies: ApiDependencies) {
  const { tokens, keys, secrets, postgres, readModels, eventLog, decider, commands, push, revocations, recorder } =
    dependencies;
  const { deadLetterStore, parkedWork, unitLogClient, addresses, natsUrl, holdTtlS, loadSnapshot, lastSequence } =
    dependencies;
  const { newId, randomBytes, clock, log } = dependencies;
  const { sql } = postgres;
  const apiKeys = new ApiKeys(sql, clock);
  const authenticator = new Authenticator(tokens, apiKeys, new Customers(sql, newId));
  const idempotentWrites = new IdempotentWrites(dependencies.idempotency, newId);
  const positions = new ReadPositions(dependencies.positions);
  const macros = apiMacros({
    authenticate: (authorization, role) => authenticator.authenticate(authorization, role),
    writes: idempotentWrites,
    positions,
  });
  const exports = new ExportStreams(log);
  const reservations = new ReservationService({ decider, commands, secrets, newId, clock });
  const registration = new UnitRegistration({ decider, addresses, keys, natsUrl, holdTtlS, newId, log });
  const credentials = new UnitCredentials({ decider, keys, natsUrl, revocations });
  const changes = new UnitChanges({ decider, addresses, credentials, readModels, unitLogClient, newId, clock });
  const lockers = new UnitLockers({ decider, commands, newId, clock });
  const support = new ReservationSupport({ decider, clock });
  const configurations = new ConfigurationService({ decider, push, positions, readModels, clock });
  const history = new UnitHistory({ eventLog, positions, decider, loadSnapshot, lastSequence, clock });
  const rollouts = new RolloutService(postgres, readModels);
  const deadLetters = new DeadLetterService({ deadLetterStore, decider, recorder, clock });
  return new Elysia()
    .use(apiKeyRoutes(macros, { apiKeys, newId, randomBytes }))
    .use(unitRoutes(macros, { registration, credentials, changes, readModels, clock }))
    .use(lockerRoutes(macros, { lockers }))
    .use(configurationRoutes(macros, { configurations, readModels }))
    .use(rolloutRoutes(macros, { rollouts }))
    .use(pingerRoutes(macros, { readModels }))
    .use(availabilityRoutes(macros, { readModels, clock }))
    .use(reservationRoutes(macros, { reservations, support, readModels }))
    .use(eventRoutes(macros, { exports, eventLog }))
    .use(historyRoutes(macros, { history }))
    .use(summaryRoutes(macros, { exports, readModels, clock }))
    .use(deadLetterRoutes(macros, { deadLetterStore, deadLetters }))
    .use(workRoutes(macros, { parkedWork }))
    .use(projectionRoutes(macros, { postgres, lastSequence }));
}

/** The status of an answer. A `Response` has a status of its own, which overrides the one that was set before. */
function statusOf(answer: unknown, set: number | string | undefined): number {
  return answer instanceof Response ? answer.status : Number(set ?? 200);
}

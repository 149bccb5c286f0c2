/** The REST API: every controller, one way of reading bodies, one way of answering errors. */

import { Elysia, NotFoundError, ParseError, ValidationError } from 'elysia';
import { fieldErrorsOf } from '../../domain/field-errors.ts';
import type { Log } from '../../platform/observability/log.ts';
import { NDJSON, readJson } from '../http/body.ts';
import { Problem, problemOf, problemResponse } from '../http/problems.ts';
import { readParameters } from '../http/reads.ts';
import { asyncApiRoutes } from './asyncapi/routes.ts';
import { type ApiKeyDependencies, apiKeyRoutes } from './auth/routes.ts';
import { type AvailabilityDependencies, availabilityRoutes } from './availability/routes.ts';
import { type RolloutRouteDependencies, rolloutRoutes } from './config-rollouts/routes.ts';
import { type ConfigurationRouteDependencies, configurationRoutes } from './configuration/routes.ts';
import { type DeadLetterRouteDependencies, deadLetterRoutes } from './dead-letters/routes.ts';
import { type EventDependencies, eventRoutes } from './events/routes.ts';
import { type HealthChecks, healthRoutes } from './health/routes.ts';
import { type HistoryRouteDependencies, historyRoutes } from './history/routes.ts';
import { openapi } from './openapi.ts';
import { type PingerRouteDependencies, pingerRoutes } from './pinger/routes.ts';
import { type ProjectionRouteDependencies, projectionRoutes } from './projections/routes.ts';
import { type ReservationRouteDependencies, reservationRoutes } from './reservations/routes.ts';
import { type SummaryRouteDependencies, summaryRoutes } from './summary/routes.ts';
import { type UnitRouteDependencies, unitRoutes } from './units/routes.ts';

/** Connections that say nothing for this long are closed. */
const IDLE_TIMEOUT_S = 30;
/** Bun refuses larger bodies before we see them; imports are streams of any length, so this is only a last resort. */
const MAX_STREAM_BYTES = 1024 * 1024 * 1024;

export type AppDependencies = ApiKeyDependencies &
  AvailabilityDependencies &
  ConfigurationRouteDependencies &
  DeadLetterRouteDependencies &
  EventDependencies &
  HistoryRouteDependencies &
  PingerRouteDependencies &
  ProjectionRouteDependencies &
  ReservationRouteDependencies &
  RolloutRouteDependencies &
  SummaryRouteDependencies &
  UnitRouteDependencies;

/** `onAnswer` is told the status of every answer. */
export function createApp(
  deps: AppDependencies,
  checks: HealthChecks,
  log: Log,
  onAnswer: (status: number) => void = () => undefined,
) {
  return new Elysia({
    // An unknown field is an error, not something to drop in silence.
    normalize: false,
    serve: { idleTimeout: IDLE_TIMEOUT_S, maxRequestBodySize: MAX_STREAM_BYTES },
  })
    .onParse({ as: 'global' }, ({ request }, contentType) => (contentType === NDJSON ? undefined : readJson(request)))
    .onTransform({ as: 'global' }, ({ query }) => readParameters(query))
    .onError({ as: 'global' }, ({ error, request, set }) => {
      const response = problemResponse(toProblem(error, request, log));
      // Whoever looks after the answer is not shown it.
      set.status = response.status;
      return response;
    })
    .onAfterResponse({ as: 'global' }, ({ set, responseValue }) => onAnswer(statusOf(responseValue, set.status)))
    .use(openapi())
    .use(asyncApiRoutes())
    .use(healthRoutes(checks))
    .use(apiKeyRoutes(deps))
    .use(unitRoutes(deps))
    .use(configurationRoutes(deps))
    .use(rolloutRoutes(deps))
    .use(pingerRoutes(deps))
    .use(availabilityRoutes(deps))
    .use(reservationRoutes(deps))
    .use(eventRoutes(deps))
    .use(historyRoutes(deps))
    .use(summaryRoutes(deps))
    .use(deadLetterRoutes(deps))
    .use(projectionRoutes(deps));
}

/** A response has its own status, whatever was set before. */
function statusOf(answer: unknown, set: number | string | undefined): number {
  return answer instanceof Response ? answer.status : Number(set ?? 200);
}

function toProblem(error: unknown, request: Request, log: Log): Problem {
  // Elysia wraps what a body parser throws.
  const thrown = error instanceof ParseError ? error.cause : error;
  const problem = problemOf(thrown) ?? frameworkProblem(thrown);
  if (problem !== undefined) return problem;
  log.error('a request failed', { method: request.method, url: request.url, error });
  return new Problem('unavailable', 500, 'Something went wrong on our side. It has been noted.');
}

function frameworkProblem(error: unknown): Problem | undefined {
  if (error instanceof NotFoundError) return new Problem('not-found', 404, 'There is no such route.');
  if (error instanceof ValidationError) {
    const prefix = error.type === 'body' ? '' : `/${error.type}`;
    const { validator, value } = error;
    // Only TypeBox schemas are used here; the other kinds that Elysia takes have no list of errors.
    const errors = 'Errors' in validator ? fieldErrorsOf(validator.Errors(value), prefix) : [];
    return new Problem('validation', 422, 'The request is not valid.', { errors });
  }
  return undefined;
}

/** Problem documents (RFC 9457): every error that the API answers, each with a stable type. */

import { type Static, Type } from '@sinclair/typebox';
import { NotFoundError, ParseError, ValidationError } from 'elysia';
import { type FieldError, fieldErrorsOf } from '../../domain/field-errors.ts';
import { Refusal, type RefusalKind } from '../../domain/refusal.ts';
import { IdentityProviderError, TokenError } from '../../platform/auth/tokens.ts';
import { StoreUnavailableError } from '../../platform/event-store/store.ts';
import { NatsUnavailableError } from '../../platform/nats/connection.ts';
import type { Log } from '../../platform/observability/log.ts';
import { PostgresUnavailableError } from '../../platform/postgres/connection.ts';
import { CursorError } from '../../platform/postgres/cursor.ts';

/** How long a client should wait before it repeats a request when the platform is unavailable. */
export const RETRY_AFTER_S = 1;
/** How long a client should wait before it repeats a request when the unit did not answer. */
export const UNIT_RETRY_AFTER_S = 5;

/** What a client is told of an error that the platform did not foresee. The log has the error itself. */
export const INTERNAL_DETAIL =
  'The platform failed in a way that it does not expect, and has logged the error. The request may or may not have taken ' +
  'effect; repeat a write with the same Idempotency-Key.';

const UNAVAILABLE_DETAIL = 'NATS or Postgres cannot be reached right now. Nothing was changed; send the request again.';
const INVALID_REQUEST = 'The request is not valid. `errors` names each field and what is wrong with it.';

/** The content type of a problem document. */
export const PROBLEM_TYPE = 'application/problem+json';

interface ProblemKind {
  readonly title: string;
  /** The statuses of answers with this problem. */
  readonly statuses: readonly number[];
  /** Further statuses where the request has a body. */
  readonly bodyStatuses?: readonly number[];
  /** A `detail` as the documentation shows it. */
  readonly example: string;
}

const PROBLEMS = {
  validation: {
    title: 'The request is not valid',
    statuses: [422],
    bodyStatuses: [400, 413, 415],
    example: INVALID_REQUEST,
  },
  unauthenticated: {
    title: 'A valid token is needed',
    statuses: [401],
    example: 'The token has expired. Get a new one and send the request again.',
  },
  forbidden: {
    title: 'The token does not allow this',
    statuses: [403],
    example: 'This request needs a token with the role ops; this one has the role customer.',
  },
  'not-found': { title: 'There is no such thing', statuses: [404], example: 'There is no unit PL-1000.' },
  'no-locker-free': {
    title: 'No locker is free',
    statuses: [409],
    example: 'No locker of size M is free in that period.',
  },
  closed: {
    title: 'The unit is closed',
    statuses: [409],
    example:
      'The unit is closed at 2026-07-01T00:00:00.000Z. It is open on Wednesday from 08:00 to 20:00 (Europe/Warsaw).',
  },
  'reservation-state': {
    title: 'The reservation is in another state',
    statuses: [409],
    example: 'The reservation is cancelled. It cannot be confirmed.',
  },
  'not-yet': {
    title: 'It is too early',
    statuses: [409],
    example: 'The reservation begins at 2026-07-01T10:00:00.000Z.',
  },
  'unit-in-use': {
    title: 'The unit or locker is in use',
    statuses: [409],
    example: 'Unit PL-1000 has 2 open bookings and 1 running rental. Wait, or give them up with `force=true`.',
  },
  'unit-offline': {
    title: 'The unit cannot be reached',
    statuses: [503],
    example: 'Unit PL-1000 did not answer in time. Look whether the locker is open; if not, send the request again.',
  },
  'unit-rejected': {
    title: 'The unit refused',
    statuses: [409],
    example: 'Unit PL-1000 did not open locker B: jammed.',
  },
  'idempotency-key-reused': {
    title: 'The Idempotency-Key cannot be used',
    statuses: [409, 422],
    example: 'This Idempotency-Key was used with another body before. Use a new key for a new request.',
  },
  'precondition-failed': {
    title: 'A precondition does not hold',
    statuses: [409, 412],
    example: 'The configuration is at version 4 by now, not 3. Read it again before you change it.',
  },
  'dead-letter-refused': {
    title: 'The dead letter is refused again',
    statuses: [409],
    example: 'The dead letter is not accepted now either: /data/locker is missing. It stays as it is.',
  },
  unavailable: {
    title: 'A part of the platform cannot be reached',
    statuses: [503],
    example: UNAVAILABLE_DETAIL,
  },
  internal: {
    title: 'The platform failed',
    statuses: [500],
    example: INTERNAL_DETAIL,
  },
} as const satisfies Record<string, ProblemKind>;
export type ProblemName = keyof typeof PROBLEMS;

/** The statuses with which a route answers a problem. `hasBody`: whether its requests have one. */
export function problemStatuses(name: ProblemName, hasBody: boolean): readonly number[] {
  const { statuses, bodyStatuses = [] }: ProblemKind = PROBLEMS[name];
  return hasBody ? [...statuses, ...bodyStatuses] : statuses;
}

/** A problem document as the documentation shows it. */
export function problemExample(name: ProblemName, status: number): ProblemDocument {
  return { type: `/problems/${name}`, title: PROBLEMS[name].title, status, detail: PROBLEMS[name].example };
}

const STATUS_OF_REFUSAL: Readonly<Record<RefusalKind, number>> = {
  validation: 422,
  'not-found': 404,
  'no-locker-free': 409,
  closed: 409,
  'reservation-state': 409,
  'unit-in-use': 409,
  'not-yet': 409,
  'precondition-failed': 412,
  'unit-offline': 503,
};

export const ProblemDocument = Type.Object(
  {
    type: Type.String({ description: 'The stable name of the problem: `/problems/` and a name.' }),
    title: Type.String({ description: 'What every problem of this type has in common.' }),
    status: Type.Integer({ description: 'The HTTP status of the answer.' }),
    detail: Type.String({ description: 'What happened, why, and what to do, in a sentence for people.' }),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          path: Type.String({ description: 'The JSON pointer of the field in the body, or `/query/…`, `/params/…`.' }),
          message: Type.String({ description: 'What is wrong with the field.' }),
        }),
        { description: 'The fields that are not valid, of a `/problems/validation`.' },
      ),
    ),
    inUse: Type.Optional(
      Type.Object(
        {
          bookings: Type.Integer({ description: 'The number of open bookings.' }),
          reservations: Type.Array(Type.String(), { description: 'The ids of the first open bookings, at most 20.' }),
          rentals: Type.Array(
            Type.Object({
              locker: Type.String(),
              rentalId: Type.String(),
              reservationId: Type.Optional(Type.String()),
            }),
            { description: 'The first rentals that run, at most 20.' },
          ),
          backlog: Type.Integer({
            description: 'The number of events at the unit that the platform has not recorded yet.',
          }),
        },
        { description: 'What stands in the way, of a `/problems/unit-in-use`.' },
      ),
    ),
  },
  { title: 'Problem' },
);
export type ProblemDocument = Static<typeof ProblemDocument>;

interface ProblemOptions {
  readonly errors?: readonly FieldError[];
  readonly retryAfterS?: number;
  readonly inUse?: NonNullable<ProblemDocument['inUse']>;
}

/** An error with the problem document that the API answers. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly document: ProblemDocument;
  readonly retryAfterS: number | undefined;

  /** A problem that was answered before, from its document. */
  static from(document: ProblemDocument): Problem {
    const problem = new Problem('internal', document.status, document.detail);
    return Object.assign(problem, { document });
  }

  constructor(
    name: ProblemName,
    status: number,
    detail: string,
    { errors = [], retryAfterS, inUse }: ProblemOptions = {},
  ) {
    super(detail);
    this.document = {
      type: `/problems/${name}`,
      title: PROBLEMS[name].title,
      status,
      detail,
      ...(inUse === undefined ? {} : { inUse }),
      ...(errors.length === 0 ? {} : { errors: errors.map(({ path, message }) => ({ path, message })) }),
    };
    this.retryAfterS = retryAfterS;
  }
}

/** The problem that one field of the request is not valid. `path` is a JSON pointer, such as `/query/cursor`. */
export function invalidField(path: string, message: string): Problem {
  return new Problem('validation', 422, INVALID_REQUEST, { errors: [{ path, message }] });
}

/** The problem that a client is told of an error; `undefined` for an error that the platform does not foresee. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof Refusal) {
    const status = STATUS_OF_REFUSAL[error.kind];
    const retry = error.kind === 'unit-offline' ? { retryAfterS: UNIT_RETRY_AFTER_S } : {};
    return new Problem(error.kind, status, error.message, { errors: error.errors, ...retry });
  }
  if (error instanceof CursorError)
    return invalidField('/query/cursor', 'is not a cursor of this list: use the nextCursor of a page of this list');
  if (error instanceof TokenError) return new Problem('unauthenticated', 401, error.message);
  if (error instanceof IdentityProviderError) {
    return new Problem('unavailable', 503, `${error.message} Nothing was changed; send the request again.`, {
      retryAfterS: RETRY_AFTER_S,
    });
  }
  if (
    error instanceof StoreUnavailableError ||
    error instanceof NatsUnavailableError ||
    error instanceof PostgresUnavailableError
  ) {
    return new Problem('unavailable', 503, UNAVAILABLE_DETAIL, {
      retryAfterS: RETRY_AFTER_S,
    });
  }
  return undefined;
}

/** The problem with which a request is answered that failed with `error`. One that is not foreseen is logged. */
export function answeredProblem(error: unknown, request: Request, log: Log): Problem {
  // Elysia wraps an error of the body parser.
  const cause = error instanceof ParseError ? error.cause : error;
  const problem = problemOf(cause) ?? frameworkProblem(cause, request);
  if (problem !== undefined) return request.method === 'GET' ? ofQuery(problem) : problem;
  log.error('a request failed', { method: request.method, url: request.url, error });
  return new Problem('internal', 500, INTERNAL_DETAIL);
}

/** Where a path of an error begins that is not one of the body. */
const PARTS_OF_REQUEST = /^\/(query|params|headers)\//;

/** A refusal of the domain names the fields of a decision. A GET has no body, so that they came from its query. */
function ofQuery(problem: Problem): Problem {
  const { errors } = problem.document;
  if (errors === undefined || errors.every(({ path }) => PARTS_OF_REQUEST.test(path))) return problem;
  const named = errors.map(({ path, message }) => ({
    path: PARTS_OF_REQUEST.test(path) ? path : `/query${path}`,
    message,
  }));
  return Problem.from({ ...problem.document, errors: named });
}

function frameworkProblem(error: unknown, request: Request): Problem | undefined {
  if (error instanceof NotFoundError) {
    const { pathname } = new URL(request.url);
    return new Problem('not-found', 404, `There is no route ${request.method} ${pathname}. /swagger lists the routes.`);
  }
  if (error instanceof ValidationError) {
    const prefix = error.type === 'body' ? '' : `/${error.type}`;
    const { validator, value } = error;
    // Elysia takes other kinds of validators than TypeBox', which have no list of errors; the API has none of them.
    const errors = 'Errors' in validator ? fieldErrorsOf(validator.Errors(value), prefix) : [];
    return new Problem('validation', 422, INVALID_REQUEST, { errors });
  }
  return undefined;
}

/** The HTTP response of a problem. */
export function problemResponse({ document, retryAfterS }: Problem): Response {
  return new Response(JSON.stringify(document), {
    status: document.status,
    headers: {
      'content-type': 'application/problem+json',
      ...(retryAfterS === undefined ? {} : { 'retry-after': String(retryAfterS) }),
      ...(document.status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
    },
  });
}

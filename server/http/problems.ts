/** Problem documents (RFC 9457): every error that a client sees, with a stable type. */

import { type Static, Type } from '@sinclair/typebox';
import { type FieldError, Refusal, type RefusalKind } from '../../domain/refusal.ts';
import { TokenError } from '../../platform/auth/tokens.ts';
import { StoreUnavailableError } from '../../platform/event-store/store.ts';
import { NatsUnavailableError } from '../../platform/nats/connection.ts';
import { PostgresUnavailableError } from '../../platform/postgres/connection.ts';
import { CursorError } from '../../platform/postgres/cursor.ts';

/** What a client should wait before it tries again when a part of the platform is out of reach. */
export const RETRY_AFTER_S = 1;
/** The same when a unit is out of reach. */
export const UNIT_RETRY_AFTER_S = 5;

const TITLES = {
  validation: 'The request is not valid',
  unauthenticated: 'A valid token is needed',
  forbidden: 'The token does not allow this',
  'not-found': 'There is no such thing',
  'no-locker-free': 'No locker is free',
  'reservation-state': 'The reservation is in another state',
  'not-yet': 'It is too early',
  'unit-offline': 'The unit cannot be reached',
  'unit-rejected': 'The unit said no',
  'idempotency-key-reused': 'The Idempotency-Key cannot be used',
  'precondition-failed': 'A precondition does not hold',
  unavailable: 'A part of the platform cannot be reached',
} as const;
export type ProblemName = keyof typeof TITLES;

const STATUS_OF_REFUSAL: Readonly<Record<RefusalKind, number>> = {
  validation: 422,
  'not-found': 404,
  'no-locker-free': 409,
  'reservation-state': 409,
  'not-yet': 409,
  'precondition-failed': 412,
  'unit-offline': 503,
};

export const ProblemDocument = Type.Object({
  type: Type.String({ examples: ['/problems/validation'] }),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  errors: Type.Optional(
    Type.Array(Type.Object({ path: Type.String({ description: 'JSON pointer' }), message: Type.String() })),
  ),
});
export type ProblemDocument = Static<typeof ProblemDocument>;

/** An error that is answered as it is. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly document: ProblemDocument;
  readonly retryAfterS: number | undefined;

  constructor(
    name: ProblemName,
    status: number,
    detail: string,
    { errors = [], retryAfterS }: { readonly errors?: readonly FieldError[]; readonly retryAfterS?: number } = {},
  ) {
    super(detail);
    this.document = {
      type: `/problems/${name}`,
      title: TITLES[name],
      status,
      detail,
      ...(errors.length === 0 ? {} : { errors: errors.map(({ path, message }) => ({ path, message })) }),
    };
    this.retryAfterS = retryAfterS;
  }
}

/** A problem with one field of the request. */
export function invalidField(path: string, message: string): Problem {
  return new Problem('validation', 422, 'The request is not valid.', { errors: [{ path, message }] });
}

/** The problem that an error is to a client; `undefined` for one that nobody expected. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof Refusal) {
    const status = STATUS_OF_REFUSAL[error.kind];
    const retry = error.kind === 'unit-offline' ? { retryAfterS: UNIT_RETRY_AFTER_S } : {};
    return new Problem(error.kind, status, error.message, { errors: error.errors, ...retry });
  }
  if (error instanceof CursorError) return invalidField('/query/cursor', 'is not a cursor of this list');
  if (error instanceof TokenError) return new Problem('unauthenticated', 401, error.message);
  if (
    error instanceof StoreUnavailableError ||
    error instanceof NatsUnavailableError ||
    error instanceof PostgresUnavailableError
  ) {
    return new Problem('unavailable', 503, 'A part of the platform cannot be reached right now. Nothing was changed.', {
      retryAfterS: RETRY_AFTER_S,
    });
  }
  return undefined;
}

/** The answer of a problem, with its content type and the headers that its status asks for. */
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

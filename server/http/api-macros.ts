/** The plugin that gives the routes of every capability their declarations: `auth`, `idempotent` and `minPosition`. */

import { Elysia } from 'elysia';
import type { TokenRole } from '../../platform/auth/tokens.ts';
import type { IdempotentWrites, WriteOnce } from './idempotent-writes.ts';
import type { MinPositionOptions } from './operation.ts';
import type { ReadPositions } from './read-positions.ts';

/** The role that a route asks for; `any`: customers and operators may call it. */
export type RequiredRole = TokenRole | 'any';

/** The client that a request comes from, after its token was verified. */
export interface Caller {
  readonly role: TokenRole;
  /** Subject of the token. */
  readonly sub: string;
  /** For a customer: the random id in the event log. For an operator: equal to `sub`. */
  readonly id: string;
  /** The `actor` of events: `customer:ID` or `ops:SUB`. */
  readonly actor: string;
}

export interface ApiMacroDependencies {
  /** Verifies an `Authorization` header. It throws a `TokenError`, or a `Problem` `forbidden` for another role. */
  readonly authenticate: (authorization: string | undefined, role: RequiredRole) => Promise<Caller>;
  readonly writes: IdempotentWrites;
  readonly positions: ReadPositions;
}

/** `ApiMacros` is what the routes of a capability `use`. */
export type ApiMacros = ReturnType<typeof apiMacros>;

/**
 * Elysia puts the hooks of a macro into the operation itself, which is one object for every API of the process. The hooks therefore
 * find what belongs to their API (`api`) in the context, and never in a closure.
 */
export function apiMacros(api: ApiMacroDependencies) {
  return new Elysia({ name: 'api-macros' }).decorate('api', api).macro({
    /** Verifies the token before the request is validated, so that a client without one learns nothing of the schema. */
    auth: (role: RequiredRole) => ({
      async transform({ api, request, headers }) {
        callers.set(request, await api.authenticate(headers.authorization, role));
      },
      resolve: ({ request }) => ({ caller: callerOf(request) }),
    }),
    idempotent: (_: true) => ({
      resolve({ api, request, headers, path, query, body, set }): { write: WriteOnce } {
        const content = { body: body ?? {}, query, ifMatch: headers['if-match'] };
        const key = headers['idempotency-key'];
        const route = `${request.method} ${path}`;
        return {
          write: (run) => api.writes.run({ caller: callerOf(request), route, key, content }, set.headers, run),
        };
      },
    }),
    minPosition: ({ readModel, unitOf = unitNamedIn }: MinPositionOptions) => ({
      beforeHandle: ({ api, params, query }) =>
        api.positions.reached(readModel, query.minPosition, unitOf({ ...query, ...params })),
    }),
  });
}

/** The callers of running requests. Only `resolve`, after the validation, can hand a value to the handler. */
const callers = new WeakMap<Request, Caller>();

function callerOf(request: Request): Caller {
  const caller = callers.get(request);
  if (caller === undefined) throw new Error('The operation declares a macro that needs its caller, but not `auth`.');
  return caller;
}

function unitNamedIn({ name, unit }: Readonly<Record<string, string | undefined>>): string | undefined {
  return name ?? unit;
}

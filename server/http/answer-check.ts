/**
 * Compares every answer of the server with the documentation of its route. The suites run servers with it, so that a handler that
 * answers anything but what Swagger shows fails its test. Production answers are not compared, which saves the time.
 *
 * An answer passes when its status and content type are documented and its JSON fits the schema. A field that the schema does not
 * name fails, too, although clients are told nothing about further fields: otherwise documentation would fall behind unnoticed.
 * Streams (CSV, NDJSON) are compared by status and content type; their content goes out unread.
 */

import type { TSchema } from '@sinclair/typebox';
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler';
import { fieldErrorsOf } from '../../domain/field-errors.ts';
import type { Log } from '../../platform/observability/log.ts';
import { PROBLEM_TYPE, Problem, ProblemDocument, problemResponse } from './problems.ts';

/** A route as Elysia lists it. */
export interface ListedRoute {
  readonly method: string;
  readonly path: string;
  readonly hooks?: { readonly detail?: { readonly hide?: boolean; readonly responses?: unknown } };
}

interface DocumentedResponse {
  readonly content?: Readonly<Record<string, { readonly schema: TSchema }>>;
}

interface CheckedRoute {
  readonly method: string;
  readonly pattern: RegExp;
  readonly isHidden: boolean;
  readonly responses: Readonly<Record<string, DocumentedResponse>>;
}

const PROBLEM = { content: { [PROBLEM_TYPE]: { schema: ProblemDocument } } };
/**
 * What is answered where no route is. The URL of a request has `..` resolved, but Bun finds the route by the path as it was received: a
 * parameter `..` is refused by a route that the check does not find.
 */
const NO_ROUTE: CheckedRoute['responses'] = { 404: PROBLEM, 422: PROBLEM };

export class AnswerCheck {
  readonly #listRoutes: () => readonly ListedRoute[];
  readonly #log: Log;
  readonly #compiled = new Map<TSchema, TypeCheck<TSchema>>();
  #routes: readonly CheckedRoute[] | undefined;

  /** The check calls `listRoutes` at the first request, when all routes are registered. */
  constructor(listRoutes: () => readonly ListedRoute[], log: Log) {
    this.#listRoutes = listRoutes;
    this.#log = log;
  }

  /** The answer itself when it is as documented, else a 500 that says how it differs. */
  async check(request: Request, response: unknown): Promise<Response> {
    if (!(response instanceof Response)) throw new Error('A request was answered by something that is no Response.');
    const { pathname } = new URL(request.url);
    const differences = await this.#differences(request.method, pathname, response);
    if (differences.length === 0) return response;
    const answer = `${request.method} ${pathname} ${response.status}`;
    this.#log.error('an answer differs from its documentation', { answer, differences });
    const detail = `The answer ${answer} differs from its documentation: ${differences.join('; ')}.`;
    return problemResponse(new Problem('internal', 500, detail));
  }

  async #differences(method: string, pathname: string, response: Response): Promise<readonly string[]> {
    this.#routes ??= this.#listRoutes().map(checkedRoute);
    const path = pathname.length > 1 && pathname.endsWith('/') ? pathname.slice(0, -1) : pathname;
    const candidates = this.#routes.filter(({ pattern }) => pattern.test(path));
    const route = candidates.find((candidate) => candidate.method === method);
    // HEAD and OPTIONS are answered by the framework.
    if (route?.isHidden || method === 'HEAD' || method === 'OPTIONS') return [];
    const documented = (route?.responses ?? NO_ROUTE)[response.status];
    if (documented === undefined) return [`status ${response.status} is not documented`];
    if (documented.content === undefined) {
      return (await response.clone().text()) === '' ? [] : ['a body is not documented'];
    }
    const contentType = response.headers.get('content-type')?.split(';', 1)[0] ?? '';
    const content = documented.content[contentType];
    if (content === undefined) return [`the content type "${contentType}" is not documented`];
    if (!/[/+]json$/.test(contentType)) return [];
    const check = this.#compile(content.schema);
    const value: unknown = await response.clone().json();
    return fieldErrorsOf(check.Errors(value)).map(({ path, message }) => `${path} ${message}`);
  }

  #compile(schema: TSchema): TypeCheck<TSchema> {
    const compiled = this.#compiled.get(schema) ?? TypeCompiler.Compile(closed(schema));
    this.#compiled.set(schema, compiled);
    return compiled;
  }
}

function checkedRoute({ method, path, hooks }: ListedRoute): CheckedRoute {
  const { hide = false, responses = {} } = hooks?.detail ?? {};
  const pattern = new RegExp(`^${path.replace(/\/$/, '').replace(/:[^/]+/g, '[^/]+') || '/'}$`);
  return { method, pattern, isHidden: hide, responses: responses as CheckedRoute['responses'] };
}

/** The same schema, except that an object has only the fields that it names, unless the schema says otherwise. */
function closed<S extends TSchema>(schema: S): S {
  const copy = mapSchema(schema);
  const isOpen = copy.type !== 'object' || copy.properties === undefined || 'additionalProperties' in copy;
  return isOpen ? copy : { ...copy, additionalProperties: false };
}

/** A copy of a schema, with every schema in it closed. TypeBox' symbols are copied along. */
function mapSchema<S extends TSchema>(schema: S): S {
  const copy: TSchema = { ...schema };
  if (schema.properties !== undefined) {
    copy.properties = Object.fromEntries(
      Object.entries<TSchema>(schema.properties).map(([name, property]) => [name, closed(property)]),
    );
  }
  for (const key of ['items', 'not'] as const) {
    const inner: unknown = schema[key];
    if (Array.isArray(inner)) copy[key] = inner.map(closed);
    else if (isSchema(inner)) copy[key] = closed(inner);
  }
  for (const key of ['anyOf', 'oneOf'] as const) {
    const inner: unknown = schema[key];
    if (Array.isArray(inner)) copy[key] = inner.map(closed);
  }
  return copy as S;
}

function isSchema(value: unknown): value is TSchema {
  return typeof value === 'object' && value !== null;
}

/**
 * How a capability of the API is written.
 *
 * - `schema.ts` holds one `operation({…})` for each route: body, query, params, the answer of each status with an example, and
 *   the problems that the route can give. Elysia validates requests by it, TypeScript checks the handler's answer against it,
 *   Swagger shows it, and in tests `answer-check.ts` compares every answer of the server with it. An object schema with a `title`
 *   becomes a named schema of the OpenAPI document, and so a named type of generated clients: every title stands for one schema.
 * - `routes.ts` exports `thingRoutes(macros, {…dependencies…})`: `new Elysia({ prefix }).use(macros).post('/', handler, HOLD)`.
 *   Handlers take values and call a service. The operation declares what else happens (`api-macros.ts`):
 *     `auth: 'ops' | 'customer' | 'any'`: the handler gets `caller`, `{ role, sub, id, actor }`. Other clients get 401 or 403.
 *     `idempotent: true`: the handler gets `write(run)`, which runs a write once for each `Idempotency-Key`. `run` gets the id of
 *       the command and resolves with `{ status, body, position?, keptBody? }`.
 *     `minPosition: { readModel: 'units' }`: the read model reaches the `minPosition` of the query before the handler runs.
 * - `thing-service.ts` decides and answers. It knows no Elysia; it throws `Problem` (`problems.ts`) or a `Refusal` of the domain.
 */

import { OptionalKind, type TSchema, type TUnsafe, Type } from '@sinclair/typebox';
import type { DocumentDecoration } from 'elysia';
import type { RequiredRole } from './api-macros.ts';
import { PROBLEM_TYPE, ProblemDocument, type ProblemName, problemExample, problemStatuses } from './problems.ts';
import { MAX_KEY_LENGTH, type Shown } from './schemas.ts';

/** Problems of every route that asks for a token. */
const PROBLEMS_WITH_TOKEN: readonly ProblemName[] = ['unauthenticated', 'forbidden', 'unavailable', 'internal'];
/** Problems of every other route. */
const PROBLEMS_WITHOUT_TOKEN: readonly ProblemName[] = ['internal'];
/** Elysia validates no answer by itself: that would cost time in production. Tests do it by `answer-check.ts`. */
const UNCHECKED_BY_ELYSIA = { noValidate: true };

/** What a route answers with one status. */
export interface DocumentedAnswer<S extends TSchema = TSchema> {
  readonly description: string;
  readonly schema?: S;
  readonly example?: unknown;
  /** @default application/json */
  readonly contentType?: string;
  /** The same answer for clients that accept another content type. */
  readonly alternatives?: Readonly<Record<string, { readonly schema: TSchema; readonly example: unknown }>>;
  /** The handler answers with a `Response`, whose JSON it has written itself. */
  readonly asResponse?: true;
  /** Headers of the answer, with a description of each. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer with a JSON body. The example is checked against the schema by the compiler. */
export function answer<S extends TSchema>(description: string, schema: S, example: Shown<S>) {
  return { description, schema, example };
}

interface OperationSpec {
  /** Unique in the API. Generated clients name their functions after it. */
  readonly id: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly auth?: RequiredRole;
  readonly idempotent?: true;
  readonly minPosition?: MinPositionOptions;
  readonly body?: TSchema;
  readonly params?: TSchema;
  readonly query?: TSchema;
  readonly headers?: TSchema;
  readonly answers: Readonly<Record<number, DocumentedAnswer>>;
  readonly problems?: readonly ProblemName[];
  /** A body that the handler reads itself, line by line. */
  readonly streamedBody?: { readonly contentType: string; readonly schema: TSchema; readonly example: string };
}

/** Which read model has to reach the `minPosition` of a request. */
export interface MinPositionOptions {
  readonly readModel: string;
  /**
   * The unit whose lane of the read model counts; every lane counts without one.
   * @default the unit that the path names as `name`, else the one that the query names as `unit`
   */
  readonly unitOf?: (params: Readonly<Record<string, string | undefined>>) => string | undefined;
}

/** The key of the request body in `detail`. Under the name of OpenAPI, the Swagger plugin would overwrite it. */
export const REQUEST_BODY = 'x-request-body';

const IDEMPOTENCY_KEY_PARAMETER = {
  in: 'header',
  name: 'Idempotency-Key',
  required: false,
  description:
    'Makes a repeat of the request harmless: for 24 hours, a request with the same key and body gets the first answer again ' +
    'and changes nothing. After an answer with a status of 500 or more, it continues the same command. Bodies are compared by ' +
    'their canonical JSON (RFC 8785).',
  schema: { type: 'string', minLength: 1, maxLength: MAX_KEY_LENGTH },
};

const POSITION_HEADER = {
  'Lockfleet-Position':
    'The position of the write, unless it changed no unit. A read with it as `minPosition` shows the write.',
};

/** The parts of a description that Elysia gets as they are. */
const DECLARED = ['auth', 'idempotent', 'minPosition', 'body', 'params', 'query', 'headers'] as const;
type DeclaredKey = (typeof DECLARED)[number];

type Responses<Answers> = {
  [Status in keyof Answers]: Answers[Status] extends { readonly schema: infer S extends TSchema }
    ? TUnsafe<
        Answers[Status] extends { readonly alternatives: unknown } | { readonly asResponse: true }
          ? Shown<S> | Response
          : Shown<S>
      >
    : TUnsafe<undefined>;
} & (200 extends keyof Answers ? unknown : NoAnswer200);

/** Elysia checks no answer of a handler whose route has no answer 200. */
type NoAnswer200 = { 200: TUnsafe<never> };

export type Operation<Spec extends OperationSpec> = Pick<Spec, Extract<keyof Spec, DeclaredKey>> & {
  response: Responses<Spec['answers']>;
  detail: DocumentDecoration;
};

/** Turns the description of a route into the options of Elysia's route: schemas, macros and documentation. */
export function operation<const Spec extends OperationSpec>(spec: Spec): Operation<Spec> {
  const declared = Object.fromEntries(DECLARED.flatMap((key) => (spec[key] === undefined ? [] : [[key, spec[key]]])));
  const answers = Object.entries<DocumentedAnswer>(spec.answers);
  const response = Object.fromEntries(
    answers.map(([status, { schema = Type.Undefined() }]) => [status, { ...schema, ...UNCHECKED_BY_ELYSIA }]),
  );
  return { ...declared, response, detail: documentationOf(spec) } as unknown as Operation<Spec>;
}

/** The part of the OpenAPI document that describes the route, except for the path and a body that Elysia parses. */
function documentationOf(spec: OperationSpec) {
  const { id, tag, summary, description, auth, streamedBody, problems = [] } = spec;
  const names = new Set([...(auth === undefined ? PROBLEMS_WITHOUT_TOKEN : PROBLEMS_WITH_TOKEN), ...problems]);
  if (spec.idempotent) names.add('idempotency-key-reused').add('validation');
  const hasBody = spec.body !== undefined || streamedBody !== undefined || spec.idempotent === true;
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    security: auth === undefined ? [] : [{ bearer: [] }],
    parameters: parametersOf(spec),
    ...requestBodyOf(spec),
    responses: {
      ...Object.fromEntries(
        Object.entries(spec.answers).map(([status, answered]) => [status, responseOf(withPosition(answered, spec))]),
      ),
      ...problemResponses([...names], hasBody),
    },
  };
}

function parametersOf({ params, query, headers, idempotent }: OperationSpec) {
  return [
    ...parametersIn('path', params),
    ...parametersIn('query', query),
    ...parametersIn('header', headers),
    ...(idempotent === true ? [IDEMPOTENCY_KEY_PARAMETER] : []),
  ];
}

function parametersIn(place: 'path' | 'query' | 'header', schema: TSchema | undefined) {
  const properties: Readonly<Record<string, TSchema>> = schema?.properties ?? {};
  const required: readonly string[] = schema?.required ?? [];
  return Object.entries(properties).map(([name, { description, ...property }]) => ({
    in: place,
    name,
    required: required.includes(name),
    ...(description === undefined ? {} : { description }),
    schema: property,
  }));
}

function requestBodyOf({ body, streamedBody }: OperationSpec) {
  if (streamedBody !== undefined) {
    const { contentType, schema, example } = streamedBody;
    return { [REQUEST_BODY]: { required: true, content: { [contentType]: { schema, example } } } };
  }
  if (body === undefined) return {};
  return { [REQUEST_BODY]: { required: !(OptionalKind in body), content: { 'application/json': { schema: body } } } };
}

/** An idempotent write answers with its position. */
function withPosition(answered: DocumentedAnswer, { idempotent }: OperationSpec): DocumentedAnswer {
  return idempotent === true ? { ...answered, headers: { ...POSITION_HEADER, ...answered.headers } } : answered;
}

function responseOf({
  description,
  schema,
  example,
  contentType = 'application/json',
  alternatives,
  headers,
}: DocumentedAnswer) {
  return {
    description,
    ...(headers === undefined ? {} : { headers: Object.fromEntries(Object.entries(headers).map(headerOf)) }),
    ...(schema === undefined ? {} : { content: { [contentType]: { schema, example }, ...alternatives } }),
  };
}

function headerOf([name, description]: [string, string]) {
  return [name, { description, schema: { type: 'string' } }];
}

function problemResponses(names: readonly ProblemName[], hasBody: boolean) {
  const byStatus = Map.groupBy(
    names.flatMap((name) => problemStatuses(name, hasBody).map((status) => ({ name, status }))),
    ({ status }) => status,
  );
  return Object.fromEntries(
    [...byStatus].map(([status, problems]) => [
      status,
      problemResponse(
        status,
        problems.map(({ name }) => name),
      ),
    ]),
  );
}

function problemResponse(status: number, names: readonly ProblemName[]) {
  const examples = names.map((name) => [name, { value: problemExample(name, status) }]);
  return {
    description: names.map((name) => `\`/problems/${name}\``).join(' or '),
    content: { [PROBLEM_TYPE]: { schema: ProblemDocument, examples: Object.fromEntries(examples) } },
  };
}

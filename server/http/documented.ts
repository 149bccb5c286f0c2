/** What the API documentation says of a route: its summary, its answers with examples, and every error it can give. */

import type { TSchema } from '@sinclair/typebox';
import { ProblemDocument, type ProblemName, problemExample, problemStatuses } from './problems.ts';

/** Errors that every route with a token can give. */
const ALWAYS: readonly ProblemName[] = ['unauthenticated', 'forbidden', 'unavailable', 'internal'];

interface Answered {
  readonly description: string;
  readonly schema?: TSchema;
  readonly example?: unknown;
  /** @default application/json */
  readonly contentType?: string;
  /** What the same answer is for those who accept another type. */
  readonly others?: Readonly<Record<string, { readonly schema: TSchema; readonly example: unknown }>>;
}

export interface Documentation {
  readonly summary: string;
  readonly description?: string;
  readonly tag: string;
  readonly answers: Readonly<Record<number, Answered>>;
  readonly errors?: readonly ProblemName[];
  /** Whether the route asks for a token. @default true */
  readonly secured?: boolean;
  /** A body that Elysia does not check, as for streams. */
  readonly requestBody?: { readonly contentType: string; readonly schema: TSchema; readonly example: string };
}

/** The `detail` of a route. */
export function documented({
  summary,
  description,
  tag,
  answers,
  errors = [],
  secured = true,
  requestBody,
}: Documentation) {
  const problems = secured ? [...ALWAYS, ...errors] : errors;
  return {
    summary,
    tags: [tag],
    ...(description === undefined ? {} : { description }),
    ...(secured ? { security: [{ bearer: [] }] } : {}),
    ...(requestBody === undefined ? {} : { requestBody: bodyOf(requestBody) }),
    responses: { ...Object.fromEntries(Object.entries(answers).map(answerOf)), ...problemAnswers(problems) },
  };
}

function bodyOf({ contentType, schema, example }: NonNullable<Documentation['requestBody']>) {
  return { required: true, content: { [contentType]: { schema, example } } };
}

function answerOf([status, answered]: [string, Answered]) {
  const { description, schema, example, contentType = 'application/json', others = {} } = answered;
  const content = schema === undefined ? undefined : { [contentType]: { schema, example }, ...others };
  return [status, { description, ...(content === undefined ? {} : { content }) }];
}

function problemAnswers(names: readonly ProblemName[]) {
  const byStatus = new Map<number, ProblemName[]>();
  for (const name of new Set(names)) {
    for (const status of problemStatuses(name, true)) byStatus.set(status, [...(byStatus.get(status) ?? []), name]);
  }
  const entries = [...byStatus]
    .sort(([a], [b]) => a - b)
    .map(([status, names]) => [String(status), problemAnswer(status, names)]);
  return Object.fromEntries(entries);
}

function problemAnswer(status: number, names: readonly ProblemName[]) {
  const examples = names.map((name) => [name, { value: problemExample(name, status) }]);
  return {
    description: names.map((name) => `/problems/${name}`).join(' or '),
    content: { 'application/problem+json': { schema: ProblemDocument, examples: Object.fromEntries(examples) } },
  };
}

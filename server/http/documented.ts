/** What the API documentation says of a route: its summary, its answers with examples, and every error it can give. */

import type { TSchema } from '@sinclair/typebox';
import { ProblemDocument, type ProblemName } from './problems.ts';

/** The statuses with which each problem is answered, and an example of it. */
const PROBLEMS: Readonly<Record<ProblemName, { readonly statuses: readonly number[]; readonly example: string }>> = {
  validation: { statuses: [400, 413, 415, 422], example: 'The period cannot be reserved.' },
  unauthenticated: { statuses: [401], example: 'The token has expired.' },
  forbidden: { statuses: [403], example: 'This needs the role ops.' },
  'not-found': { statuses: [404], example: 'There is no such reservation.' },
  'no-locker-free': { statuses: [409], example: 'No locker of size M is free in that period.' },
  'reservation-state': { statuses: [409], example: 'The reservation is cancelled. It cannot be confirmed.' },
  'not-yet': { statuses: [409], example: 'The reservation begins at 2026-07-01T10:00:00.000Z.' },
  'unit-offline': { statuses: [503], example: 'The unit did not answer in time.' },
  'unit-rejected': { statuses: [409], example: 'The door did not open: jammed.' },
  'idempotency-key-reused': { statuses: [409, 422], example: 'This key came with another body before.' },
  'precondition-failed': { statuses: [409, 412], example: 'The letter is recovered. It cannot be dismissed.' },
  unavailable: { statuses: [503], example: 'A part of the platform cannot be reached right now.' },
};

/** Errors that every route with a token can give. */
const ALWAYS: readonly ProblemName[] = ['unauthenticated', 'forbidden', 'unavailable'];

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
    for (const status of PROBLEMS[name].statuses) byStatus.set(status, [...(byStatus.get(status) ?? []), name]);
  }
  const entries = [...byStatus]
    .sort(([a], [b]) => a - b)
    .map(([status, names]) => [String(status), problemAnswer(status, names)]);
  return Object.fromEntries(entries);
}

function problemAnswer(status: number, names: readonly ProblemName[]) {
  const examples = names.map((name) => [
    name,
    { value: { type: `/problems/${name}`, title: name, status, detail: PROBLEMS[name].example } },
  ]);
  return {
    description: names.map((name) => `/problems/${name}`).join(' or '),
    content: { 'application/problem+json': { schema: ProblemDocument, examples: Object.fromEntries(examples) } },
  };
}

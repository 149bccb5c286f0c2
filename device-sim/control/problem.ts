/** Errors of the control API as RFC 9457 documents, with the problem types of the platform. */

import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

/** Most field errors in one answer. */
const MAX_FIELD_ERRORS = 20;

const STATUS = { 'not-found': 404, 'unit-rejected': 409, validation: 422, unavailable: 503 } as const;
const TITLES: Readonly<Record<keyof typeof STATUS, string>> = {
  'not-found': 'Not found',
  'unit-rejected': 'The unit refused the action',
  validation: 'The request is not valid',
  unavailable: 'The simulator cannot answer now',
};

export interface FieldError {
  /** JSON pointer of the field, such as `/minutes`. */
  readonly path: string;
  readonly message: string;
}

export class ControlProblem extends Error {
  override readonly name = 'ControlProblem';
  readonly #kind: keyof typeof STATUS;
  readonly #extensions: object;

  /** @param extensions further members of the document, such as `reason` or `errors` */
  constructor(kind: keyof typeof STATUS, detail: string, extensions: object = {}) {
    super(detail);
    this.#kind = kind;
    this.#extensions = extensions;
  }

  toResponse(): Response {
    const status = STATUS[this.#kind];
    const body = { type: `/problems/${this.#kind}`, title: TITLES[this.#kind], status, detail: this.message };
    return new Response(JSON.stringify({ ...body, ...this.#extensions }), {
      status,
      headers: { 'content-type': 'application/problem+json' },
    });
  }
}

/**
 * Reads a JSON body. An empty body counts as `{}`.
 * @throws ControlProblem of type `validation` with an error for each invalid field
 */
export async function readBody<S extends TSchema>(request: Request, schema: S): Promise<Static<S>> {
  const text = await request.text();
  let body: unknown;
  try {
    body = text === '' ? {} : JSON.parse(text);
  } catch {
    throw validationProblem([{ path: '', message: 'is not JSON' }]);
  }
  if (Value.Check(schema, body)) return body;
  const errors = [...Value.Errors(schema, body)].map(({ path, message }) => ({ path, message }));
  throw validationProblem(errors);
}

/** The schema of a body without fields. */
export const EmptyBody = Type.Object({}, { additionalProperties: false });

export function validationProblem(errors: readonly FieldError[]): ControlProblem {
  const shown = errors.slice(0, MAX_FIELD_ERRORS);
  const detail = shown.map(({ path, message }) => `${path === '' ? 'the body' : path}: ${message}`).join('; ');
  return new ControlProblem('validation', detail, { errors: shown });
}

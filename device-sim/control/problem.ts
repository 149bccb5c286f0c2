/** Errors of the control API as RFC 9457 documents, with the problem types of the platform. */

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
  readonly #status: number;

  /**
   * @param extensions further members of the document, such as `reason` or `errors`
   * @param status another status than the usual one of the kind
   */
  constructor(kind: keyof typeof STATUS, detail: string, extensions: object = {}, status: number = STATUS[kind]) {
    super(detail);
    this.#kind = kind;
    this.#extensions = extensions;
    this.#status = status;
  }

  toResponse(): Response {
    const status = this.#status;
    const body = { type: `/problems/${this.#kind}`, title: TITLES[this.#kind], status, detail: this.message };
    return new Response(JSON.stringify({ ...body, ...this.#extensions }), {
      status,
      headers: { 'content-type': 'application/problem+json' },
    });
  }
}

export function validationProblem(errors: readonly FieldError[]): ControlProblem {
  const shown = errors.slice(0, MAX_FIELD_ERRORS);
  const detail = shown.map(({ path, message }) => `${path === '' ? 'the body' : path}: ${message}`).join('; ');
  return new ControlProblem('validation', detail, { errors: shown });
}

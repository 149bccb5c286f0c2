/** Errors that name the fields of a request: what a refusal carries, and the conversion of TypeBox's errors into it. */

import type { TSchema } from '@sinclair/typebox';
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors';

/** Bound on the errors of one answer, for a body in which nearly every field is invalid. */
const MAX_FIELD_ERRORS = 100;

export interface FieldError {
  /** JSON pointer of the field, such as `/from`. */
  readonly path: string;
  readonly message: string;
}

/**
 * Converts TypeBox's errors to one error a field.
 * `prefix` is the part of the request that was checked, such as `/query`; the body has none.
 */
export function fieldErrorsOf(errors: Iterable<ValueError>, prefix = ''): FieldError[] {
  const fields = new Map<string, string>();
  for (const error of errors) {
    if (fields.size >= MAX_FIELD_ERRORS) break;
    const path = `${prefix}${error.path}` || '/';
    // TypeBox reports the most specific error of a field first.
    if (!fields.has(path)) fields.set(path, fieldMessage(error));
  }
  return [...fields].map(([path, message]) => ({ path, message }));
}

function fieldMessage({ type, schema, message }: ValueError): string {
  switch (type) {
    case ValueErrorType.ObjectAdditionalProperties:
      return 'is not a known field';
    case ValueErrorType.ObjectRequiredProperty:
      return 'is missing';
    case ValueErrorType.Union:
      return `must be ${alternatives(schema)}`;
    case ValueErrorType.StringPattern:
      return `must be ${schema.expects ?? `a text that matches ${schema.pattern}`}`;
    default:
      return message.charAt(0).toLowerCase() + message.slice(1);
  }
}

function alternatives(schema: TSchema): string {
  const anyOf: readonly TSchema[] = schema.anyOf ?? [];
  const values = anyOf.map((option) =>
    option.const === undefined ? String(option.type) : JSON.stringify(option.const),
  );
  return values.length === 0 ? 'another value' : `one of ${values.join(', ')}`;
}

/** Turns what a schema says of a value into errors that name the fields, in words. */

import type { TSchema } from '@sinclair/typebox';
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors';
import type { FieldError } from './refusal.ts';

/** Errors that one answer names; a body that is wrong all over is not explained to the last field. */
const MAX_FIELD_ERRORS = 100;

/** `prefix` is the part of the request, such as `/query`; the body has none. */
export function fieldErrorsOf(errors: Iterable<ValueError>, prefix = ''): FieldError[] {
  const fields = new Map<string, string>();
  for (const error of errors) {
    if (fields.size >= MAX_FIELD_ERRORS) break;
    const path = `${prefix}${error.path}` || '/';
    // The first error of a field says most; those that follow repeat it in other words.
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
      return schema.description === undefined ? `must match ${schema.pattern}` : `must be: ${schema.description}`;
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

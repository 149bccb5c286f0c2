/** Finds the parts of a schema that accept values of any size. */

import { type TSchema, TypeGuard } from '@sinclair/typebox';

/** What must have a bound: `texts` alone, or also lists and numbers. */
export type BoundedParts = 'texts' | 'everything';

/**
 * The paths of the parts of a schema without a bound, such as `data.lockers[].id`. An object with any fields counts as bounded: the bound
 * on the bytes of the whole event is its bound.
 */
export function unboundedParts(schema: TSchema, parts: BoundedParts, path = ''): string[] {
  if (TypeGuard.IsUnion(schema)) return schema.anyOf.flatMap((option) => unboundedParts(option, parts, path));
  if (TypeGuard.IsObject(schema)) {
    return Object.entries(schema.properties).flatMap(([name, property]) =>
      unboundedParts(property, parts, path === '' ? name : `${path}.${name}`),
    );
  }
  if (TypeGuard.IsArray(schema)) {
    const isUnbounded = parts === 'everything' && schema.maxItems === undefined;
    return [...(isUnbounded ? [path] : []), ...unboundedParts(schema.items, parts, `${path}[]`)];
  }
  if (TypeGuard.IsRecord(schema)) {
    return Object.values(schema.patternProperties).flatMap((value) => unboundedParts(value, parts, `${path}.*`));
  }
  if (TypeGuard.IsString(schema)) return isBoundedText(schema) ? [] : [path];
  if (TypeGuard.IsInteger(schema) || TypeGuard.IsNumber(schema)) {
    const isUnbounded = schema.minimum === undefined || schema.maximum === undefined;
    return parts === 'everything' && isUnbounded ? [path] : [];
  }
  if (TypeGuard.IsLiteral(schema) || TypeGuard.IsBoolean(schema) || TypeGuard.IsUnknown(schema)) return [];
  throw new Error(`The walk does not know the schema of ${path}: ${JSON.stringify(schema)}`);
}

/** A pattern bounds a text when it is anchored at both ends and repeats nothing without a limit. */
function isBoundedText({ maxLength, pattern, format }: { maxLength?: number; pattern?: string; format?: string }) {
  if (maxLength !== undefined || format !== undefined) return true;
  return pattern?.startsWith('^') === true && pattern.endsWith('$') && !/[^\\][*+]|\{\d+,\}/.test(pattern);
}

/** The fields of a TypeBox schema as rows of a table: what a page for people says about a schema can be compared with it. */

import { type TSchema, TypeGuard } from '@sinclair/typebox';
import { Currency, Identifier, Instant, LockerId, Text, Token, UnitName, Uuid } from '../../domain/vocabulary.ts';

export interface SchemaField {
  /** Such as `price.amount` or `lockers[].id`. */
  readonly path: string;
  readonly isRequired: boolean;
  /** Type and bounds, such as `integer, 0 or more`. */
  readonly type: string;
}

/** Patterns that the page has a name for. */
const NAMED_TYPES = new Map<unknown, string>([
  [Instant.pattern, 'time'],
  [LockerId.pattern, 'locker id'],
  [UnitName.pattern, 'unit name'],
  [Uuid.pattern, 'UUID in lower case'],
  [Currency.pattern, 'currency'],
  [Token.pattern, 'token'],
  [Identifier.pattern, 'identifier'],
]);

/** The fields of an object schema, those of its objects and lists included, in the order of the schema. */
export function fieldsOf(schema: TSchema, prefix = ''): SchemaField[] {
  if (!TypeGuard.IsObject(schema)) return [];
  return Object.entries(schema.properties).flatMap(([name, property]) => {
    const path = `${prefix}${name}`;
    const isRequired = schema.required?.includes(name) ?? false;
    const nested = TypeGuard.IsArray(property)
      ? fieldsOf(property.items, `${path}[].`)
      : fieldsOf(property, `${path}.`);
    return [{ path, isRequired, type: describeType(property) }, ...nested];
  });
}

function describeType(schema: TSchema): string {
  if (TypeGuard.IsUnion(schema)) return schema.anyOf.map(describeType).join(', ');
  if (TypeGuard.IsLiteral(schema)) return `\`${schema.const}\``;
  if (TypeGuard.IsString(schema)) return describeString(schema);
  if (TypeGuard.IsInteger(schema)) return `integer${describeRange(schema.minimum, schema.maximum)}`;
  if (TypeGuard.IsBoolean(schema)) return 'boolean';
  if (TypeGuard.IsArray(schema)) return `list${describeRange(schema.minItems, schema.maxItems)}`;
  if (TypeGuard.IsObject(schema) || TypeGuard.IsRecord(schema)) return 'object';
  throw new Error(`the page has no name for the type ${JSON.stringify(schema)}`);
}

function describeString(schema: { pattern?: string; minLength?: number; maxLength?: number }): string {
  if (schema.pattern === undefined) {
    return schema.maxLength === Text.maxLength && schema.minLength === undefined
      ? 'text'
      : `string${describeRange(schema.minLength, schema.maxLength, ' characters')}`;
  }
  return NAMED_TYPES.get(schema.pattern) ?? `string \`${schema.pattern.replaceAll('|', '\\|')}\``;
}

function describeRange(minimum: number | undefined, maximum: number | undefined, unit = ''): string {
  if (minimum === undefined) return maximum === undefined ? '' : `, at most ${maximum}${unit}`;
  return maximum === undefined ? `, ${minimum} or more${unit}` : `, ${minimum} to ${maximum}${unit}`;
}

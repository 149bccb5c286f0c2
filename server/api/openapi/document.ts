/**
 * Turns the document that the Swagger plugin emits into a valid OpenAPI 3.1 document that client generators understand.
 *
 * The plugin names version 3.0.3 and writes the JSON Schema of TypeBox, which is that of 3.1. Here the document gets the version that
 * it has, bodies as their operations describe them, and named schemas: a schema with a `title` moves to `components.schemas`, so
 * that a generated client has one type for it.
 */

import { isDeepStrictEqual } from 'node:util';
import { REQUEST_BODY } from '../../http/operation.ts';

type Json = null | boolean | number | string | readonly Json[] | JsonObject;
interface JsonObject {
  readonly [key: string]: Json;
}

const OPENAPI_VERSION = '3.1.0';
/** Keywords whose value is data of the API, not a part of the document. */
const DATA_KEYWORDS: ReadonlySet<string> = new Set(['example', 'examples', 'default', 'const', 'enum']);
/** Keywords of Elysia and of our own that JSON Schema does not know. */
const FOREIGN_KEYWORDS: ReadonlySet<string> = new Set(['noValidate', 'expects']);
/** How TypeBox writes an object with any fields. */
const ANY_NAME = '^(.*)$';

/** @throws Error when two different schemas have the same title */
export function openApiDocument(emitted: unknown): JsonObject {
  const document = asObject(JSON.parse(JSON.stringify(emitted)));
  const schemas = new Map<string, JsonObject>();
  const paths = mapValues(asObject(document.paths ?? {}), (item) =>
    mapValues(asObject(item), (operation) => convert(withRequestBody(asObject(operation)), schemas)),
  );
  const named = [...schemas].sort(([a], [b]) => a.localeCompare(b));
  const components = { ...asObject(document.components ?? {}), schemas: Object.fromEntries(named) };
  return { ...document, openapi: OPENAPI_VERSION, paths, components };
}

/** The plugin replaces the body that an operation describes by one of its own, which may have any content type. */
function withRequestBody({ [REQUEST_BODY]: described, ...operation }: JsonObject): JsonObject {
  return described === undefined ? operation : { ...operation, requestBody: described };
}

function convert(value: Json, schemas: Map<string, JsonObject>): Json {
  if (Array.isArray(value)) return value.map((item) => convert(item, schemas));
  if (!isObject(value)) return value;
  const entries = Object.entries(value).filter(([key]) => !FOREIGN_KEYWORDS.has(key));
  const converted = Object.fromEntries(
    entries.map(([key, inner]) => [key, DATA_KEYWORDS.has(key) ? inner : convertKeyword(key, inner, schemas)]),
  );
  const schema = withEnum(withAdditionalProperties(converted));
  return typeof schema.title === 'string' ? referenceTo(schema.title, schema, schemas) : schema;
}

/** The keys below `properties` are names of the API, not keywords. */
function convertKeyword(key: string, value: Json, schemas: Map<string, JsonObject>): Json {
  if (key !== 'properties' || !isObject(value)) return convert(value, schemas);
  return mapValues(value, (property) => convert(property, schemas));
}

function referenceTo(title: string, schema: JsonObject, schemas: Map<string, JsonObject>): JsonObject {
  const other = schemas.get(title);
  if (other !== undefined && !isDeepStrictEqual(other, schema)) {
    throw new Error(`Two different schemas of the API have the title ${title}. Give each a title of its own.`);
  }
  schemas.set(title, schema);
  return { $ref: `#/components/schemas/${title}` };
}

/** An `anyOf` of single texts becomes an `enum`. */
function withEnum({ anyOf, ...schema }: JsonObject): JsonObject {
  if (anyOf === undefined) return schema;
  const texts = Array.isArray(anyOf) ? anyOf.map(textOf) : [undefined];
  return texts.includes(undefined) ? { ...schema, anyOf } : { ...schema, type: 'string', enum: texts.filter(isText) };
}

function textOf(schema: Json): string | undefined {
  return isObject(schema) && typeof schema.const === 'string' ? schema.const : undefined;
}

function isText(text: string | undefined): text is string {
  return text !== undefined;
}

/** An object with any fields says so by `additionalProperties`, which generators understand. */
function withAdditionalProperties({ patternProperties, ...schema }: JsonObject): JsonObject {
  if (patternProperties === undefined) return schema;
  const any = isObject(patternProperties) ? patternProperties[ANY_NAME] : undefined;
  return any === undefined ? { ...schema, patternProperties } : { ...schema, additionalProperties: any };
}

function mapValues(object: JsonObject, map: (value: Json) => Json): JsonObject {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, map(value)]));
}

function isObject(value: Json): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function asObject(value: Json): JsonObject {
  if (!isObject(value)) throw new Error('The Swagger plugin has emitted a document of an unknown form.');
  return value;
}

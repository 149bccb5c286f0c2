/** The operations of an OpenAPI document, and every place in their bodies that takes a text, a number or the name of a member. */

export interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly string[];
  readonly const?: unknown;
  readonly pattern?: string;
  readonly minItems?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly examples?: readonly unknown[];
}

export interface Parameter {
  readonly in: 'path' | 'query' | 'header';
  readonly name: string;
  readonly required?: boolean;
  readonly schema: Schema;
}

export interface ApiOperation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly Parameter[];
  /** The schema of the JSON body, with its references resolved. */
  readonly body: Schema | undefined;
  /** The content type of the body, which may be one of lines. */
  readonly bodyType: string | undefined;
  /** The content types of the answer 200. */
  readonly answerTypes: readonly string[];
}

/** A way into a JSON value. `name` stands for the name of a member itself. */
export interface Field {
  readonly path: readonly (string | number)[];
  readonly kind: 'text' | 'number' | 'name';
  /** The schema of the value, or of the object with the member. */
  readonly schema: Schema;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, RawOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}
interface RawOperation {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>;
}

export function operationsOf(document: unknown): ApiOperation[] {
  const { paths, components } = document as Document;
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): ApiOperation => {
      const [content] = Object.entries(operation.requestBody?.content ?? {});
      return {
        id: operation.operationId,
        method: method.toUpperCase(),
        path,
        parameters: operation.parameters ?? [],
        body: content === undefined ? undefined : resolve(content[1].schema, components.schemas),
        bodyType: content?.[0],
        answerTypes: Object.keys(operation.responses[200]?.content ?? {}),
      };
    }),
  );
}

function resolve(schema: Schema, named: Readonly<Record<string, Schema>>): Schema {
  if (schema.$ref !== undefined) {
    const found = named[schema.$ref.replace('#/components/schemas/', '')];
    if (found === undefined) throw new Error(`The document lacks ${schema.$ref}.`);
    return resolve(found, named);
  }
  const all = (schemas: Readonly<Record<string, Schema>>) =>
    Object.fromEntries(Object.entries(schemas).map(([key, inner]) => [key, resolve(inner, named)]));
  const { properties, patternProperties, items, anyOf } = schema;
  return {
    ...schema,
    ...(properties === undefined ? {} : { properties: all(properties) }),
    ...(patternProperties === undefined ? {} : { patternProperties: all(patternProperties) }),
    ...(items === undefined ? {} : { items: resolve(items, named) }),
    ...(anyOf === undefined ? {} : { anyOf: anyOf.map((option) => resolve(option, named)) }),
  };
}

/** Every place of a value of the schema. Of a list, the first element stands for all; every object also takes an unknown member. */
export function fieldsIn(schema: Schema, path: readonly (string | number)[] = []): Field[] {
  if (schema.anyOf !== undefined) return schema.anyOf.flatMap((option) => fieldsIn(option, path));
  if (schema.items !== undefined) return fieldsIn(schema.items, [...path, 0]);
  if (schema.type === 'object') {
    const names: Field = { path, kind: 'name', schema };
    const members = Object.entries(schema.properties ?? {}).flatMap(([name, inner]) =>
      fieldsIn(inner, [...path, name]),
    );
    const anyMembers = Object.values(schema.patternProperties ?? {}).flatMap((inner) =>
      fieldsIn(inner, [...path, exampleName(schema)]),
    );
    return [names, ...members, ...anyMembers];
  }
  if (schema.type === 'string') return [{ path, kind: 'text', schema }];
  if (schema.type === 'integer' || schema.type === 'number') return [{ path, kind: 'number', schema }];
  return [];
}

/** The name of a member of an object whose names have a pattern: the first candidate that matches. */
function exampleName({ patternProperties = {} }: Schema): string {
  const [pattern = ''] = Object.keys(patternProperties);
  const found = ['de', 'welcome', 'a', 'A'].find((name) => new RegExp(pattern).test(name));
  if (found === undefined) throw new Error(`Add a name that matches ${pattern}.`);
  return found;
}

/** A value of the schema. @throws Error for a pattern without a known example, which has to be added */
export function exampleOf(schema: Schema): unknown {
  const { examples, enum: texts, anyOf, type, items, properties = {}, required = [] } = schema;
  if (examples?.[0] !== undefined) return examples[0];
  if (schema.const !== undefined) return schema.const;
  if (texts?.[0] !== undefined) return texts[0];
  if (anyOf?.[0] !== undefined) return exampleOf(anyOf[0]);
  if (items !== undefined) return [exampleOf(items)];
  if (type === 'boolean') return true;
  if (type === 'integer' || type === 'number') return schema.minimum ?? 0;
  if (type === 'object') {
    return Object.fromEntries(
      Object.entries(properties)
        .filter(([name]) => required.includes(name))
        .map(([name, inner]) => [name, exampleOf(inner)]),
    );
  }
  const { pattern } = schema;
  if (pattern === undefined) return 'text';
  const found = EXAMPLES.find((text) => new RegExp(pattern).test(text));
  if (found === undefined) throw new Error(`Add an example that matches ${pattern}.`);
  return found;
}

const EXAMPLES = [
  'PL-1000',
  '2030-07-01T10:00:00.000Z',
  '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  '08:00',
  'EUR',
  'abc',
  '1',
  '2026-06-01',
];

/** The JSON pointer of a path. */
export function pointerOf(path: readonly (string | number)[]): string {
  return path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

const PLACE = 'the-place-of-the-json';

/** The JSON of `base` with `json` at a path. Objects and lists on the way that `base` lacks are made as the schema says. */
export function jsonWith(base: unknown, schema: Schema, path: readonly (string | number)[], json: string): string {
  return JSON.stringify(withValue(base, schema, path)).replace(`"${PLACE}"`, () => json);
}

/** The JSON of `base` with another member in the object at a path. */
export function jsonWithMember(
  base: unknown,
  schema: Schema,
  path: readonly (string | number)[],
  name: string,
  json: string,
): string {
  return JSON.stringify(withValue(base, schema, [...path, `${PLACE}-name`]))
    .replace(`"${PLACE}-name"`, () => JSON.stringify(name))
    .replace(`"${PLACE}"`, () => json);
}

function withValue(base: unknown, schema: Schema, [first, ...rest]: readonly (string | number)[]): unknown {
  if (first === undefined) return PLACE;
  const option = schema.anyOf?.find(({ type }) => type === (typeof first === 'number' ? 'array' : 'object')) ?? schema;
  if (typeof first === 'number') {
    const list = Array.isArray(base) ? base : [];
    return [withValue(list[first], option.items ?? {}, rest), ...list.slice(1)];
  }
  const object =
    typeof base === 'object' && base !== null ? base : (exampleOf({ ...option, type: 'object' }) as object);
  const inner = option.properties?.[first] ?? Object.values(option.patternProperties ?? {})[0] ?? {};
  const before = Object.hasOwn(object, first) ? (object as Record<string, unknown>)[first] : undefined;
  return { ...object, [first]: withValue(before, inner, rest) };
}

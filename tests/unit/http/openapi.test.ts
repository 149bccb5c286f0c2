/** The OpenAPI document: valid for the version that it names, and complete. */

import { beforeAll, describe, expect, test } from 'bun:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { openApiDocument } from '../../../server/api/openapi/document.ts';
import { apiWithoutServices } from '../../support/api.ts';

interface Content {
  readonly schema: object;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
}
interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly security: readonly object[];
  readonly parameters?: readonly { readonly name: string; readonly schema: object }[];
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: Record<string, Content> }>
  >;
}
interface OpenApi {
  readonly openapi: string;
  readonly tags: readonly { readonly name: string }[];
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

let document: OpenApi;
let operations: { readonly name: string; readonly operation: Operation }[];

beforeAll(async () => {
  const response = await apiWithoutServices().handle(new Request('http://localhost/swagger/json'));
  document = (await response.json()) as OpenApi;
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
  );
});

describe('the OpenAPI document', () => {
  test('is valid for version 3.1', async () => {
    expect(document.openapi).toBe('3.1.0');
    const { valid, errors } = await new Validator().validate(JSON.parse(JSON.stringify(document)));
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
  });

  test('gives each operation an id of its own, a summary, a known tag and a security requirement', () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(ids.length).toBeGreaterThan(30);
    expect(ids.toSorted()).toEqual([...new Set(ids)].toSorted());
    const tags = document.tags.map(({ name }) => name);
    for (const { name, operation } of operations) {
      // The plugin derives a missing id from method and path, and functions of generated clients would change with the path.
      expect([name, operation.operationId]).toEqual([name, expect.not.stringMatching(/^(get|post|put|delete)V1/)]);
      expect([name, operation.summary]).toEqual([name, expect.stringMatching(/^[A-Z]/)]);
      for (const tag of operation.tags) expect([name, tags]).toEqual([name, expect.arrayContaining([tag])]);
      const needsToken = name.includes(' /v1/');
      expect([name, operation.security]).toEqual([name, needsToken ? [{ bearer: [] }] : []]);
    }
  });

  test('documents a success and the problem 500 of each operation; with a token also 401, 403 and 503', () => {
    for (const { name, operation } of operations) {
      const statuses = Object.keys(operation.responses);
      expect([name, statuses.some((status) => status.startsWith('2'))]).toEqual([name, true]);
      const always = operation.security.length > 0 ? ['401', '403', '500', '503'] : ['500'];
      expect([name, statuses]).toEqual([name, expect.arrayContaining(always)]);
    }
  });

  test('has named schemas, and every reference resolves to one', () => {
    const references = JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g);
    const names = new Set([...references].map(([, name]) => name ?? ''));
    expect([...names].toSorted()).toEqual(Object.keys(document.components.schemas).toSorted());
    for (const name of ['Problem', 'Reservation', 'ReservationPage', 'Unit']) expect(names).toContain(name);
  });

  test('shows only examples that fit their schemas', () => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'document', components: document.components });
    for (const { name, operation } of operations) {
      for (const [status, { content = {} }] of Object.entries(operation.responses)) {
        for (const { schema, example, examples = {} } of Object.values(content)) {
          const validate = ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"document#/')));
          const values = [example, ...Object.values(examples).map(({ value }) => value)];
          for (const value of values.filter((value) => value !== undefined)) {
            validate(value);
            expect([name, status, validate.errors]).toEqual([name, status, null]);
          }
        }
      }
    }
  });

  test('describes everything in sentences', () => {
    const descriptions: string[] = [];
    JSON.stringify(document, (key, value: unknown) => {
      if (key === 'example' || key === 'examples') return undefined;
      if (key === 'description' && typeof value === 'string') descriptions.push(value);
      return value;
    });
    expect(descriptions.length).toBeGreaterThan(300);
    const problems = /^`\/problems\//;
    const isSentence = (text: string) => problems.test(text) || (/^[A-Z`]/.test(text) && /\.`?$/.test(text));
    expect(descriptions.filter((text) => !isSentence(text))).toEqual([]);
  });

  test('shows no keyword that JSON Schema does not know', () => {
    const text = JSON.stringify(document);
    expect(text).not.toContain('"expects"');
    expect(text).not.toContain('"noValidate"');
  });

  test('refuses two schemas with one title', () => {
    const emitted = (schemas: readonly object[]) => ({
      paths: {
        '/x': { get: { responses: { 200: { content: { 'application/json': { schema: { anyOf: schemas } } } } } } },
      },
    });
    const text = { title: 'Thing', type: 'string' };
    expect(openApiDocument(emitted([text, text])).components).toEqual({ schemas: { Thing: text } });
    expect(() => openApiDocument(emitted([text, { title: 'Thing', type: 'number' }]))).toThrow('the title Thing');
  });
});

test('the root path redirects to the documentation', async () => {
  const response = await apiWithoutServices().handle(new Request('http://localhost/'));
  expect([response.status, response.headers.get('location')]).toEqual([302, '/swagger']);
});

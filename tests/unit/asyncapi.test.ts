/** The AsyncAPI document: valid by the rules of AsyncAPI 3.0, complete, true to the schemas, and served with its page. */

import { describe, expect, test } from 'bun:test';
import specs from '@asyncapi/specs';
import type { TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import Ajv from 'ajv';
import { definitionOf, EVENT_CATALOGUE, type EventType, isEventType } from '../../domain/events/catalogue.ts';
import { AGGREGATES } from '../../domain/events/cloud-event.ts';
import { unitHash } from '../../domain/shard.ts';
import packageJson from '../../package.json';
import {
  eventSubject,
  unitCommandsSubject,
  unitHeartbeatSubject,
  unitPushSubject,
} from '../../platform/nats/subjects.ts';
import { findEventError } from '../../platform/unit-log/event-validation.ts';
import { asyncApiRoutes } from '../../server/api/asyncapi/routes.ts';
import { swaggerRoutes } from '../../server/api/openapi/swagger.ts';
import { asyncApiDocument } from '../../server/asyncapi/document.ts';
import { EVENTS, SCHEMAS } from '../../server/asyncapi/schemas.ts';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
const text = JSON.stringify(asyncApiDocument('1.2.3'));
const document = JSON.parse(text) as { [key: string]: Json };
const TYPES = Object.keys(EVENT_CATALOGUE) as EventType[];

/** What `#/a/b` leads to; `undefined` when it leads nowhere. */
function at(pointer: string): Json | undefined {
  let found: Json | undefined = document;
  for (const step of pointer.slice(2).split('/')) {
    found = typeof found === 'object' && found !== null && !Array.isArray(found) ? found[step] : undefined;
  }
  return found;
}

function references(node: Json | undefined): string[] {
  if (typeof node !== 'object' || node === null) return [];
  return Object.entries(node).flatMap(([key, value]) => (key === '$ref' ? [String(value)] : references(value)));
}

const object = (node: Json | undefined) => node as { [key: string]: Json };
const entries = (pointer: string) => Object.entries(object(at(pointer)) as Record<string, { [key: string]: Json }>);

/** The document knows each of its schemas by a pointer into itself. */
const ajv = new Ajv({ strict: false, allErrors: true });
ajv.addSchema({ $id: 'lockfleet', ...document });
function problems(pointer: string, value: unknown): unknown {
  const check = ajv.getSchema(`lockfleet${pointer}`);
  if (check === undefined) throw new Error(`there is no schema at ${pointer}`);
  return check(value) === true ? [] : check.errors;
}

describe('the AsyncAPI document', () => {
  test('is valid for AsyncAPI 3.0', () => {
    // The rules bring draft 7 of JSON schema with them, which ajv has too.
    const options = { strict: false, validateFormats: false, meta: false, validateSchema: false };
    const check = new Ajv(options).compile(specs.schemas['3.0.0'] as object);
    const valid = (candidate: unknown) => check(candidate) === true || check.errors?.slice(0, 5);
    expect(valid(document)).toBe(true);
    expect(valid({ ...document, operations: { broken: { action: 'shout' } } })).not.toBe(true);
  });

  test('is the same each time it is generated', () => {
    expect(JSON.stringify(asyncApiDocument('1.2.3'))).toBe(text);
    expect(JSON.stringify(asyncApiDocument('1.2.4'))).not.toBe(text);
  });

  test('has only references that it contains', () => {
    const all = references(document);
    expect(all.length).toBeGreaterThan(200);
    expect(all.filter((pointer) => at(pointer) === undefined)).toEqual([]);
  });

  test('has every message of an operation, and of its reply, in the channel that it names', () => {
    for (const [name, { channel, messages, reply }] of entries('#/operations')) {
      for (const side of [{ channel, messages }, object(reply ?? { channel: null, messages: [] })]) {
        const place = references(side.channel)[0];
        const outside = references(side.messages).filter((message) => !message.startsWith(`${place}/messages/`));
        expect({ name, outside }).toEqual({ name, outside: [] });
      }
    }
  });

  test('uses every component that it declares', () => {
    const used = new Set(references(document));
    const declared = ['channels', 'components/messages', 'components/parameters', 'components/securitySchemes'];
    const names = declared.flatMap((part) => entries(`#/${part}`).map(([name]) => `#/${part}/${name}`));
    expect(names.filter((name) => !used.has(name))).toEqual([]);
  });
});

describe('the AsyncAPI document is complete', () => {
  const unit = 'PL-1000';
  const values: Record<string, string> = { h1: unitHash(unit).charAt(0), h2: unitHash(unit).charAt(1), unit };
  const subjects = entries('#/channels').map(([, { address }]) =>
    String(address).replaceAll(/\{(\w+)\}/g, (_, name: string) => values[name] ?? '*'),
  );

  test.each([
    unitPushSubject(unit),
    unitHeartbeatSubject(unit),
    unitCommandsSubject(unit),
    ...AGGREGATES.map((aggregate) => eventSubject(unit, aggregate)),
  ])('has the subject %s with its parameters', (subject) => {
    expect(subjects.filter((candidate) => candidate === subject)).toEqual([subject]);
  });

  test('every address names its parameters, and they have the values of the unit as examples', () => {
    for (const [, { address, parameters }] of entries('#/channels')) {
      const named = [...String(address ?? '').matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      expect(Object.keys(object(parameters ?? {})).sort()).toEqual(named.map(String).sort());
    }
    for (const [name, value] of Object.entries(values)) {
      expect(at(`#/components/parameters/${name}`)).toMatchObject({ examples: [value] });
    }
  });

  test.each(TYPES)('%s is published for each aggregate that carries it', (type) => {
    const carriers = AGGREGATES.filter((aggregate) => at(`#/channels/${aggregate}Events/messages/${type}`));
    expect(carriers).toEqual(AGGREGATES.filter((aggregate) => definitionOf(type).aggregates.includes(aggregate)));
    const { summary, version, schema } = definitionOf(type);
    expect(at(`#/components/messages/${type}`)).toMatchObject({ summary });
    const written = object(at(`#/components/schemas/${type}/properties`));
    expect(written).toMatchObject({ type: { const: type }, dataschema: { const: `${type}/${version}` } });
    expect(Object.keys(object(object(written.data).properties))).toEqual(Object.keys(schema.properties));
  });
});

describe('every example is valid for its schema', () => {
  const said = entries('#/components/messages').flatMap(([name, { examples }]) =>
    (examples as { [key: string]: Json }[]).map((example) => ({ name, example })),
  );

  test.each(said)('$name', ({ name, example: { payload, headers } }) => {
    expect(problems(`#/components/messages/${name}/payload`, payload)).toEqual([]);
    if (isEventType(name)) expect(problems('#/components/schemas/CommitHeaders', headers)).toEqual([]);
    // And by the very check that the platform uses.
    const [schema, values]: [TSchema, Json[]] = isEventType(name)
      ? [EVENTS[name], payload as Json[]]
      : [SCHEMAS[name as keyof typeof SCHEMAS], [payload ?? null]];
    for (const value of values) expect([...Value.Errors(schema, value)]).toEqual([]);
  });

  test('an event of another type, version or data is refused', () => {
    const commit = (change: object) => {
      const { payload } =
        (object(at('#/components/messages/RentalEnded')).examples as { payload: object[] }[])[0] ?? {};
      return payload?.map((event) => ({ ...event, ...change }));
    };
    const check = (change: object) => problems('#/components/messages/RentalEnded/payload', commit(change));
    expect(check({})).toEqual([]);
    for (const change of [{ type: 'RentalStarted' }, { dataschema: 'RentalEnded/2' }, { data: { reason: 'tired' } }]) {
      expect(check(change)).not.toEqual([]);
    }
  });
});

describe('the schema of unit events agrees with ingest', () => {
  const event = { seq: 1, v: 1, type: 'RentalEnded', time: '2026-07-01T12:00:00.000Z', locker: 'B', data: {} };
  const data = { rentalId: 'r', reason: 'given-back' };
  const cases: [string, object, boolean][] = [
    ['an event', { data }, true],
    ['an event with an unknown field', { data: { ...data, mood: 'good' } }, true],
    ['other data', {}, false],
    ['another version', { v: 2 }, true],
    ['an unknown type', { type: 'CoffeeBrewed' }, true],
    ['a type that only the platform records', { type: 'ReservationHeld' }, false],
    ['an invalid time', { data, time: 'noon' }, false],
    ['an invalid seq', { data, seq: 0 }, false],
  ];

  test.each(cases)('%s', (_, change, accepted) => {
    const reported = { ...event, ...change };
    expect(findEventError(reported) === undefined).toBe(accepted);
    const found = problems('#/components/schemas/ReportedEvent', reported);
    expect(Array.isArray(found) && found.length === 0).toBe(accepted);
  });
});

describe('the AsyncAPI document is served', () => {
  const routes = asyncApiRoutes();
  const get = (path: string) => routes.handle(new Request(`http://localhost${path}`));

  test('as JSON, in the version of the platform', async () => {
    const answer = await get('/asyncapi/json');
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json;charset=utf-8']);
    expect(await answer.json()).toEqual({
      ...document,
      info: { ...object(document.info), version: packageJson.version },
    });
  });

  test('as a page that loads files of its own server only', async () => {
    const answer = await get('/asyncapi');
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    const page = await answer.text();
    expect(page).not.toMatch(/https?:|url\(|@import|(src|href)="\/\//);
    const sources = [...page.matchAll(/(?:src|href|data-url)="([^"]*)"|"url":"([^"]*)"/g)].map(
      ([, a, b]) => a ?? b ?? '',
    );
    expect(sources.sort()).toEqual(['/asyncapi/json', '/swagger/scalar.js']);
    const script = await swaggerRoutes().handle(new Request('http://localhost/swagger/scalar.js'));
    expect([script.status, script.headers.get('content-type')]).toEqual([200, 'text/javascript']);
  });

  test('beside the OpenAPI document, which links to it and does not list it', async () => {
    const app = swaggerRoutes().use(routes);
    const { info, paths } = (await (await app.handle(new Request('http://localhost/swagger/json'))).json()) as {
      info: { description: string };
      paths: object;
    };
    expect(info.description).toContain('(/asyncapi)');
    expect(Object.keys(paths)).toEqual([]);
  });
});

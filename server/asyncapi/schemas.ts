/** Every schema of the AsyncAPI document by name: the schemas of `domain/`, and envelopes and batches made of them. */

import { type TObject, type TSchema, Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { definitionOf, EVENT_CATALOGUE, type EventType, versionOf } from '../../domain/events/catalogue.ts';
import type { CloudEvent as CloudEventFields } from '../../domain/events/cloud-event.ts';
import {
  BatchEvent,
  BatchHeader,
  FetchPageHeader,
  FetchRequest,
  MAX_BATCH_EVENTS,
} from '../../domain/unit-protocol/batch.ts';
import { Command, CommandAnswer, PingReply, SignedCommand } from '../../domain/unit-protocol/commands.ts';
import { Instant, Text, UnitName } from '../../domain/vocabulary.ts';
import { MAX_COMMIT_EVENTS } from '../../platform/event-store/store.ts';

export const EVENT_TYPES = Object.keys(EVENT_CATALOGUE) as EventType[];

/** The platform records it in the place of a refused event; no unit reports it. */
const WRITTEN_BY_PLATFORM: EventType = 'UnitEventRejected';

/** The types that a unit may report: all types of `device` but `UnitEventRejected`. */
export const REPORTED_TYPES = EVENT_TYPES.filter(
  (type) => type !== WRITTEN_BY_PLATFORM && definitionOf(type).aggregates.includes('device'),
);

/** The attributes of the envelope: exactly the fields of `CloudEvent`. */
const ATTRIBUTES = {
  specversion: Type.Literal('1.0'),
  id: Type.String({ description: 'A UUIDv7, or UNIT/EPOCH/SEQ for an event that a unit reports.' }),
  source: Type.String({
    description: 'The process or unit that made the event, such as /lockfleet/server or /lockfleet/units/UNIT.',
  }),
  type: Type.String({ description: 'A type of this catalogue, or a type that only a newer unit knows.' }),
  subject: Type.String({ description: 'The unit, or UNIT/LOCKER.' }),
  time: { ...Instant, description: 'When it occurred, by the clock of its source: RFC 3339, UTC.' },
  dataschema: Type.String({ description: 'The type and the version of its schema: TYPE/VERSION.' }),
  datacontenttype: Type.Optional(Type.String()),
  data: Type.Record(Type.String(), Type.Unknown()),
  actor: Type.Optional(Type.String({ description: 'The actor, such as customer:ID, ops:SUB or unit:NAME.' })),
  correlationid: Type.Optional(Type.String()),
  causationid: Type.Optional(Type.String({ description: 'The id of the command that caused the event.' })),
  unitepoch: Type.Optional(Type.String({ description: 'The epoch of the unit’s log.' })),
  unitseq: Type.Optional(Type.Integer({ minimum: 1, description: 'The seq of the event in that epoch.' })),
  offline: Type.Optional(Type.Boolean({ description: 'The unit had no connection when the event occurred.' })),
  clockoffsetms: Type.Optional(
    Type.Integer({
      description: 'By how many milliseconds the clock of the unit was ahead, where that is more than 2 s.',
    }),
  ),
  unitextra: Type.Optional(
    Type.String({ description: 'The fields of the reported event that this version does not know, as JSON.' }),
  ),
} satisfies Record<keyof CloudEventFields, TSchema>;

const CloudEvent = Type.Object(ATTRIBUTES, { title: 'Any event', description: 'A CloudEvent 1.0 as it is stored.' });

/** The schema of a stored event of each type. */
export const EVENTS = Object.fromEntries(EVENT_TYPES.map((type) => [type, eventSchema(type)])) as Readonly<
  Record<EventType, TObject>
>;

function eventSchema(type: EventType): TObject {
  const { version, summary, schema } = definitionOf(type);
  const own = { type: Type.Literal(type), dataschema: Type.Literal(`${type}/${version}`), data: schema };
  return Type.Object({ ...ATTRIBUTES, ...own }, { title: type, description: summary });
}

/** A commit that holds an event of this type, and possibly other events of the same decision or batch. */
export function commitWith(type: EventType): TSchema {
  return Type.Array(Type.Union([EVENTS[type], CloudEvent]), {
    minItems: 1,
    maxItems: MAX_COMMIT_EVENTS,
    contains: EVENTS[type],
  });
}

function reportedSchema(type: EventType): TObject {
  const { version, summary, schema } = definitionOf(type);
  const own = { type: Type.Literal(type), v: Type.Literal(version), data: schema };
  return Type.Object({ ...BatchEvent.properties, ...own }, { title: type, description: summary });
}

/** The types and versions that the platform knows, as JSON schemas for `not`. */
function knownTypes(): object[] {
  const versions = [...new Set(EVENT_TYPES.map(versionOf))];
  return versions.map((version) => ({
    properties: { type: { enum: EVENT_TYPES.filter((type) => versionOf(type) === version) }, v: { const: version } },
  }));
}

const ReportedEvent = Type.Union(
  [
    ...REPORTED_TYPES.map(reportedSchema),
    Type.Object(BatchEvent.properties, {
      title: 'A type or a version that the platform does not know',
      description: 'The platform records it as it came.',
      not: { anyOf: knownTypes() },
    }),
  ],
  { description: 'An event as a unit reports it.' },
);
const reportedEvents = Type.Array(ReportedEvent, {
  maxItems: MAX_BATCH_EVENTS,
  description: 'The events in the order of seq, without gaps.',
});

const UnitBatch = Type.Object(
  { ...BatchHeader.properties, events: reportedEvents },
  { description: 'A part of a unit’s log.' },
);

const FetchedBatch = Type.Object(
  { ...BatchHeader.properties, ...FetchPageHeader.properties, events: reportedEvents },
  { description: 'A page of a unit’s log. `more`: the unit has later events.' },
);

/** JetStream’s answers to a publish. */
const PushStored = Type.Object(
  { stream: Type.String(), seq: Type.Integer({ minimum: 1 }), duplicate: Type.Optional(Type.Boolean()) },
  { description: 'The batch is durable. It is not recorded yet, so the unit must not delete it.' },
);
const PushRefused = Type.Object(
  {
    error: Type.Object({
      code: Type.Integer(),
      err_code: Type.Optional(Type.Integer()),
      description: Type.Optional(Type.String()),
    }),
  },
  { description: 'The batch is not stored. The unit keeps it and retries.' },
);

const UnitProblem = Type.Object(
  { reason: Text },
  {
    description:
      'The unit does not process the request: it is `malformed`, has a wrong `signature`, or the unit is `unregistered`.',
  },
);

const Mac = Type.String({ pattern: '^[0-9a-f]{32}$', description: 'The MAC, as docs/unit-protocol.md defines it.' });
const Nonce = Type.String({ pattern: '^[0-9a-f]{32}$' });
const NatsPing = Type.Object(
  {
    ping: Type.Object({
      unit: UnitName,
      nonce: Nonce,
      recorded: Type.Optional(Type.String({ description: 'EPOCH:SEQ: the unit may delete its log up to this event.' })),
      clock: Type.Integer({ description: 'The platform’s clock, in milliseconds since 1970.' }),
      mac: Mac,
    }),
  },
  { description: 'A ping. The unit does not answer a ping with a wrong MAC.' },
);
const NatsPingAnswer = Type.Object(
  { ...PingReply.properties, nonce: Nonce, mac: Mac },
  { description: 'The status of the unit, in answer to this ping.' },
);

const CommitHeaders = Type.Object({
  'Content-Type': Type.Literal('application/cloudevents-batch+json'),
  'Nats-Msg-Id': Type.String({ description: 'The id of the command, by which the server recognises a repetition.' }),
  'Nats-Expected-Last-Subject-Sequence': Type.String({
    pattern: '^\\d+$',
    description:
      'The sequence of the subject that the decision saw. If another commit came first, the append fails and is decided again.',
  }),
});

/** The named schemas, in reading order. Other schemas refer to them by `$ref`. */
export const SCHEMAS = {
  UnitBatch,
  ReportedEvent,
  PushStored,
  PushRefused,
  Heartbeat: PingReply,
  SignedCommand,
  Command,
  CommandAnswer,
  FetchRequest,
  FetchedBatch,
  UnitProblem,
  NatsPing,
  NatsPingAnswer,
  VersionedConfiguration,
  CommitHeaders,
  CloudEvent,
  ...EVENTS,
} satisfies Record<string, TSchema>;

const NAMES: ReadonlyMap<unknown, string> = new Map(Object.entries(SCHEMAS).map(([name, schema]) => [schema, name]));

/** A schema as JSON, with a `$ref` in place of every named schema, itself included. */
export function referring(schema: TSchema): unknown {
  return refer(schema);
}

/** A named schema as JSON, with a `$ref` in place of every other named schema. */
export function definition(schema: TSchema): unknown {
  return mapped(schema);
}

function refer(node: unknown): unknown {
  const name = NAMES.get(node);
  return name === undefined ? mapped(node) : { $ref: `#/components/schemas/${name}` };
}

function mapped(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(refer);
  if (typeof node !== 'object' || node === null) return node;
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, refer(value)]));
}

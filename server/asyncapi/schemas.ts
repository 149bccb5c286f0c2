/** Every schema of the AsyncAPI document by name: those of `domain/`, and what they make of an envelope or a batch. */

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

/** Stands in the place of an event that a unit reported; no unit reports it. */
const WRITTEN_BY_PLATFORM: EventType = 'UnitEventRejected';

/** What a unit may report: the types of `device` but the one that the platform puts in place of a bad one. */
export const REPORTED_TYPES = EVENT_TYPES.filter(
  (type) => type !== WRITTEN_BY_PLATFORM && definitionOf(type).aggregates.includes('device'),
);

/** The attributes of the envelope: one for each field of `CloudEvent`, neither more nor less. */
const ATTRIBUTES = {
  specversion: Type.Literal('1.0'),
  id: Type.String({ description: 'a UUIDv7, or UNIT/EPOCH/SEQ for what a unit reports' }),
  source: Type.String({ description: 'who says so, such as /lockfleet/server or /lockfleet/units/UNIT' }),
  type: Type.String({ description: 'a type of this catalogue, or one that a newer unit knows' }),
  subject: Type.String({ description: 'the unit, or UNIT/LOCKER' }),
  time: { ...Instant, description: 'when it occurred, on the clock of its source; RFC 3339, UTC' },
  dataschema: Type.String({ description: 'TYPE/VERSION' }),
  datacontenttype: Type.Optional(Type.String()),
  data: Type.Record(Type.String(), Type.Unknown()),
  actor: Type.Optional(Type.String({ description: 'who did it, such as customer:ID, ops:SUB, unit:NAME' })),
  correlationid: Type.Optional(Type.String()),
  causationid: Type.Optional(Type.String({ description: 'id of the command' })),
  unitepoch: Type.Optional(Type.String({ description: 'epoch of the unit’s log' })),
  unitseq: Type.Optional(Type.Integer({ minimum: 1, description: 'place in that epoch' })),
  offline: Type.Optional(Type.Boolean({ description: 'the unit was cut off when it happened' })),
  clockoffsetms: Type.Optional(
    Type.Integer({ description: 'how far the clock of the unit was ahead, where that is more than a little' }),
  ),
  unitextra: Type.Optional(
    Type.String({ description: 'fields of what the unit reported that are not known yet: JSON' }),
  ),
} satisfies Record<keyof CloudEventFields, TSchema>;

const CloudEvent = Type.Object(ATTRIBUTES, { title: 'Any event', description: 'CloudEvents 1.0, as stored.' });

/** The stored form of each type. */
export const EVENTS = Object.fromEntries(EVENT_TYPES.map((type) => [type, eventSchema(type)])) as Readonly<
  Record<EventType, TObject>
>;

function eventSchema(type: EventType): TObject {
  const { version, summary, schema } = definitionOf(type);
  const own = { type: Type.Literal(type), dataschema: Type.Literal(`${type}/${version}`), data: schema };
  return Type.Object({ ...ATTRIBUTES, ...own }, { title: type, description: summary });
}

/** A commit that holds an event of this type, maybe beside others of the same decision or the same unit batch. */
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

/** The types that the platform knows, by version: JSON schema to be put under `not`. */
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
      description: 'Recorded as it came.',
      not: { anyOf: knownTypes() },
    }),
  ],
  { description: 'An event as a unit reports it.' },
);
const reportedEvents = Type.Array(ReportedEvent, {
  maxItems: MAX_BATCH_EVENTS,
  description: 'in the order of seq, without gaps',
});

const UnitBatch = Type.Object(
  { ...BatchHeader.properties, events: reportedEvents },
  { description: 'A piece of a unit’s log.' },
);

const FetchedBatch = Type.Object(
  { ...BatchHeader.properties, ...FetchPageHeader.properties, events: reportedEvents },
  { description: 'A page of a unit’s log. `more`: there are events behind it.' },
);

/** JetStream’s answers to a publish. */
const PushStored = Type.Object(
  { stream: Type.String(), seq: Type.Integer({ minimum: 1 }), duplicate: Type.Optional(Type.Boolean()) },
  { description: 'The batch is durable. It is not recorded yet: nothing may be deleted.' },
);
const PushRefused = Type.Object(
  {
    error: Type.Object({
      code: Type.Integer(),
      err_code: Type.Optional(Type.Integer()),
      description: Type.Optional(Type.String()),
    }),
  },
  { description: 'The batch is not stored. The unit keeps it, and tries again later.' },
);

const UnitProblem = Type.Object(
  { reason: Text },
  { description: 'The request itself is wrong: `malformed`, `signature`, `unregistered`.' },
);

const Mac = Type.String({ pattern: '^[0-9a-f]{32}$', description: 'see docs/unit-protocol.md, section 3' });
const Nonce = Type.String({ pattern: '^[0-9a-f]{32}$' });
const NatsPing = Type.Object(
  {
    ping: Type.Object({
      unit: UnitName,
      nonce: Nonce,
      recorded: Type.Optional(Type.String({ description: 'EPOCH:SEQ: the unit may delete its log up to here' })),
      clock: Type.Integer({ description: 'the platform’s clock, milliseconds since 1970' }),
      mac: Mac,
    }),
  },
  { description: 'Asks whether the unit is there. Without a MAC that holds there is no answer.' },
);
const NatsPingAnswer = Type.Object(
  { ...PingReply.properties, nonce: Nonce, mac: Mac },
  { description: 'What the unit says about itself, to this ping.' },
);

const CommitHeaders = Type.Object({
  'Content-Type': Type.Literal('application/cloudevents-batch+json'),
  'Nats-Msg-Id': Type.String({ description: 'id of the command: a repeated one is recognised by it' }),
  'Nats-Expected-Last-Subject-Sequence': Type.String({
    pattern: '^\\d+$',
    description: 'the sequence that the decision saw: whoever was slower decides again',
  }),
});

/** By name, in the order in which a newcomer reads. What stands here is referred to wherever it occurs. */
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

/** A schema as JSON in which every named schema inside it, and it itself if it is one, is a `$ref`. */
export function referring(schema: TSchema): unknown {
  return refer(schema);
}

/** The named schema written out, with a `$ref` for every other one inside it. */
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

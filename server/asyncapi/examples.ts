/** An example of every message, made of constants only, so that every document has the same ones. */

import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { definitionOf, type EventType, versionOf } from '../../domain/events/catalogue.ts';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { deviceEventId } from '../../domain/unit-protocol/batch.ts';
import { COMMAND_SIGNATURE_TTL_S, type Command } from '../../domain/unit-protocol/commands.ts';
import { EVENT_DATA, EXAMPLE, lockerOf } from './event-data.ts';
import { EVENT_TYPES } from './schemas.ts';

const SIGNED_AT_S = Date.parse(EXAMPLE.time) / 1_000;
/** It has the length of a signature and is none. */
const NO_SIGNATURE = 'A'.repeat(86);

function jws(claims: object): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const timed = { aud: EXAMPLE.unit, iat: SIGNED_AT_S, exp: SIGNED_AT_S + COMMAND_SIGNATURE_TTL_S };
  return `${encode({ alg: 'EdDSA' })}.${encode({ ...timed, ...claims })}.${NO_SIGNATURE}`;
}

const reported: readonly BatchEvent[] = (['RentalStarted', 'LockerOpened'] as const).map((type, index) => ({
  seq: EXAMPLE.seq + index,
  v: versionOf(type),
  type,
  time: EXAMPLE.time,
  locker: EXAMPLE.locker,
  causationId: EXAMPLE.commandId,
  data: EVENT_DATA[type],
}));
const batch = { unit: EXAMPLE.unit, epoch: EXAMPLE.epoch, events: reported };

export const COMMAND_EXAMPLE: Command = {
  commandId: EXAMPLE.commandId,
  expiresAt: EXAMPLE.soon,
  openLocker: { locker: EXAMPLE.locker, reservationId: EXAMPLE.reservationId, until: EXAMPLE.until },
};

const status = {
  unit: EXAMPLE.unit,
  bootId: EXAMPLE.bootId,
  uptimeS: 86_400,
  configurationHash: defaultConfiguration(EXAMPLE.holdTtlS).hash,
  epoch: EXAMPLE.epoch,
  lastSeq: EXAMPLE.seq + 1,
  time: EXAMPLE.time,
};
const nonce = '000102030405060708090a0b0c0d0e0f';
/** It has the length of a MAC and is none. */
const NO_MAC = '0'.repeat(32);

/** An example for each schema that is the payload of a message. */
export const EXAMPLES = {
  UnitBatch: batch,
  PushStored: { stream: 'UNIT_INBOX', seq: 981 },
  PushRefused: { error: { code: 503, err_code: 10077, description: 'maximum messages per subject exceeded' } },
  Heartbeat: status,
  SignedCommand: { jws: jws({ command: COMMAND_EXAMPLE }) },
  CommandAnswer: { commandId: EXAMPLE.commandId, status: 'done' },
  FetchRequest: {
    jws: jws({ scope: 'events', recorded: `${EXAMPLE.epoch}:${EXAMPLE.seq - 1}` }),
    after: `${EXAMPLE.epoch}:${EXAMPLE.seq - 1}`,
    limit: 500,
  },
  FetchedBatch: { ...batch, firstAvailableSeq: EXAMPLE.seq, lastSeq: EXAMPLE.seq + 1, more: false },
  NatsPing: {
    ping: {
      unit: EXAMPLE.unit,
      nonce,
      recorded: `${EXAMPLE.epoch}:${EXAMPLE.seq - 1}`,
      clock: SIGNED_AT_S * 1_000,
      mac: NO_MAC,
    },
  },
  NatsPingAnswer: { ...status, nonce, mac: NO_MAC },
  UnitProblem: { reason: 'signature' },
} as const;

/** The source and the actor of events of each aggregate; those of `device` come from the unit. */
const DECIDED_BY: Readonly<Record<Exclude<Aggregate, 'device'>, { readonly source: string; readonly actor: string }>> =
  {
    registry: { source: '/lockfleet/server', actor: 'ops:me' },
    config: { source: '/lockfleet/server', actor: 'ops:me' },
    connectivity: { source: '/lockfleet/pinger', actor: 'platform:pinger' },
    booking: { source: '/lockfleet/server', actor: `customer:${EXAMPLE.customer}` },
    log: { source: '/lockfleet/server', actor: 'platform:ingest' },
  };

/** A stored event of a type, on a subject of the first aggregate that carries it. */
export function exampleEvent(type: EventType): CloudEvent {
  const [aggregate] = definitionOf(type).aggregates;
  const locker = lockerOf(type);
  const { id, source, ...written } = writtenBy(type, aggregate ?? 'device');
  return {
    specversion: '1.0',
    id,
    source,
    type,
    subject: locker === undefined ? EXAMPLE.unit : `${EXAMPLE.unit}/${locker}`,
    time: EXAMPLE.time,
    dataschema: `${type}/${versionOf(type)}`,
    data: EVENT_DATA[type],
    ...written,
  };
}

function writtenBy(type: EventType, aggregate: Aggregate) {
  const { unit, epoch, seq, commandId } = EXAMPLE;
  if (aggregate !== 'device') return { id: uuidOf(type), ...DECIDED_BY[aggregate], causationid: commandId };
  return {
    id: deviceEventId(unit, epoch, seq),
    source: `/lockfleet/units/${unit}`,
    actor: `unit:${unit}`,
    unitepoch: epoch,
    unitseq: seq,
  };
}

export function exampleCommitHeaders(type: EventType): object {
  return {
    'Content-Type': 'application/cloudevents-batch+json',
    'Nats-Msg-Id': EXAMPLE.commandId,
    'Nats-Expected-Last-Subject-Sequence': String(1_000 + EVENT_TYPES.indexOf(type)),
  };
}

function uuidOf(type: EventType): string {
  return `0197c5ed-5000-7000-8000-${EVENT_TYPES.indexOf(type).toString(16).padStart(12, '0')}`;
}

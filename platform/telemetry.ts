/**
 * What the pinger tells about single pings and heartbeats: published on `telemetry.<pingerId>`, kept for minutes, never an
 * event. Lost messages cost a point in a graph.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { Token, UnitName } from '../domain/vocabulary.ts';

/** Most results in one message. */
export const MAX_TELEMETRY_RESULTS = 1_000;
/** A token of a NATS subject. */
const PINGER_ID_PATTERN = '^[A-Za-z0-9_-]{1,64}$';
/** The end of the year 9999, milliseconds since 1970. */
const MAX_TIME_MS = 253_402_300_799_999;

const head = {
  unit: UnitName,
  at: Type.Integer({
    minimum: 0,
    maximum: MAX_TIME_MS,
    description: 'when the ping was sent or the heartbeat arrived, milliseconds since 1970',
  }),
};
const said = {
  epoch: Type.Optional(Token),
  lastSeq: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  configurationHash: Type.Optional(Token),
  clockOffsetMs: Type.Optional(
    Type.Integer({
      minimum: -MAX_TIME_MS,
      maximum: MAX_TIME_MS,
      description: 'by how much the unit’s clock is ahead',
    }),
  ),
};

const TelemetryResult = Type.Union([
  Type.Object({ heard: Type.Literal('answer'), ...head, rttMs: Type.Number({ minimum: 0 }), ...said }),
  Type.Object({ heard: Type.Literal('nothing'), ...head }),
  Type.Object({ heard: Type.Literal('heartbeat'), ...head, ...said }),
]);
/** What was heard of a unit: the answer to a ping and how long it took, nothing though it was pinged, or a heartbeat. */
export type TelemetryResult = Static<typeof TelemetryResult>;
export type Heard<H extends TelemetryResult['heard']> = Extract<TelemetryResult, { readonly heard: H }>;

const TelemetryMessage = Type.Object({
  pingerId: Type.String({ pattern: PINGER_ID_PATTERN }),
  results: Type.Array(Type.Unknown(), { maxItems: MAX_TELEMETRY_RESULTS }),
});

export interface TelemetryMessage {
  readonly pingerId: string;
  readonly results: readonly TelemetryResult[];
  /** How many results that could not be read; they are left out, and the others count. */
  readonly unreadable: number;
}

/** Where a pinger publishes. */
export function telemetrySubject(pingerId: string): string {
  return `telemetry.${pingerId}`;
}

/** The JSON of a message. `results`: at most `MAX_TELEMETRY_RESULTS`. */
export function encodeTelemetry(pingerId: string, results: readonly TelemetryResult[]): string {
  return JSON.stringify({ pingerId, results });
}

/** Reads a message; `undefined` when it is none. */
export function decodeTelemetry(json: string): TelemetryMessage | undefined {
  try {
    const message: unknown = JSON.parse(json);
    if (!Value.Check(TelemetryMessage, message)) return undefined;
    const results = message.results.filter((result) => Value.Check(TelemetryResult, result));
    return { pingerId: message.pingerId, results, unreadable: message.results.length - results.length };
  } catch {
    return undefined;
  }
}

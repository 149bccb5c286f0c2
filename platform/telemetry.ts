/**
 * What the pinger tells about single pings: published on `telemetry.<pingerId>`, kept for minutes, never an event. Lost
 * messages cost a point in a graph.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { UnitName } from '../domain/vocabulary.ts';

/** Most results in one message. */
export const MAX_TELEMETRY_RESULTS = 1_000;
/** A token of a NATS subject. */
const PINGER_ID_PATTERN = '^[A-Za-z0-9_-]{1,64}$';

const PingResult = Type.Object({
  unit: UnitName,
  at: Type.Integer({ description: 'when it was sent, milliseconds since 1970' }),
  rttMs: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], { description: 'null: no answer' }),
  epoch: Type.Optional(Type.String()),
  lastSeq: Type.Optional(Type.Integer({ minimum: 0 })),
  configurationHash: Type.Optional(Type.String()),
});
/** One ping: when it was sent, how long the answer took, and what the unit said about itself. */
export type PingResult = Static<typeof PingResult>;

const TelemetryMessage = Type.Object({
  pingerId: Type.String({ pattern: PINGER_ID_PATTERN }),
  results: Type.Array(PingResult, { maxItems: MAX_TELEMETRY_RESULTS }),
});
export type TelemetryMessage = Static<typeof TelemetryMessage>;

/** Where a pinger publishes. */
export function telemetrySubject(pingerId: string): string {
  return `telemetry.${pingerId}`;
}

/** The JSON of a message. `results`: at most `MAX_TELEMETRY_RESULTS`. */
export function encodeTelemetry(pingerId: string, results: readonly PingResult[]): string {
  return JSON.stringify({ pingerId, results });
}

/** Reads a message; `undefined` when it is none. */
export function decodeTelemetry(json: string): TelemetryMessage | undefined {
  try {
    const message: unknown = JSON.parse(json);
    return Value.Check(TelemetryMessage, message) ? message : undefined;
  } catch {
    return undefined;
  }
}

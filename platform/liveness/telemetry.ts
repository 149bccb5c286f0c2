/**
 * What the pinger tells about single pings and heartbeats: published on `telemetry.<pingerId>`, kept for minutes, never an
 * event. Lost messages cost a point in a graph.
 */

import { type Static, Type } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { Value } from '@sinclair/typebox/value';
import { Token, UnitName } from '../../domain/vocabulary.ts';

/** Width of the buckets in which response times are kept. */
export const BUCKET_MS = 300_000;
/** Most results in one message. */
export const MAX_TELEMETRY_RESULTS = 1_000;
/** A token of a NATS subject. */
export const PINGER_ID_PATTERN = '^[A-Za-z0-9_-]{1,64}$';
/** The end of the year 9999, milliseconds since 1970. */
const MAX_TIME_MS = 253_402_300_799_999;

const head = {
  unit: UnitName,
  at: Type.Integer({
    minimum: 0,
    maximum: MAX_TIME_MS,
    description: 'when the last ping was sent or the heartbeat arrived, milliseconds since 1970',
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

const Moment = Type.Integer({ minimum: 0, maximum: MAX_TIME_MS });
const Rtt = Type.Number({ minimum: 0 });
const Pings = Type.Integer({ minimum: 0, maximum: 1_000_000 });

const TelemetryResult = Type.Union([
  Type.Object({
    heard: Type.Literal('pings'),
    ...head,
    bucketAt: Moment,
    sent: Pings,
    lost: Pings,
    last: Type.Optional(Type.Object({ at: Moment, rttMs: Rtt, ...said })),
    rttMs: Type.Optional(Type.Object({ min: Rtt, max: Rtt, sum: Rtt })),
    flapping: Type.Optional(Type.Boolean()),
  }),
  Type.Object({ heard: Type.Literal('heartbeat'), ...head, ...said }),
]);
/**
 * What was heard of a unit: a heartbeat, or what came of its pings since this was told last. Of the pings: `at` is when the
 * last of them was sent, `sent` and `lost` are how many, all in the bucket that begins at `bucketAt`; `last` is the last that
 * was answered, `rttMs` the response times of all that were. Summaries of one bucket are added up.
 */
export type TelemetryResult = Static<typeof TelemetryResult>;
export type TelemetryResultOf<H extends TelemetryResult['heard']> = Extract<TelemetryResult, { readonly heard: H }>;

/** Thousands come in a second. */
const isResult = TypeCompiler.Compile(TelemetryResult);

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

export const TELEMETRY_FILTER = 'telemetry.*';

/** The JSON of a message. `results`: at most `MAX_TELEMETRY_RESULTS`. */
export function encodeTelemetry(pingerId: string, results: readonly TelemetryResult[]): string {
  return JSON.stringify({ pingerId, results });
}

/** Reads a message; `undefined` when it is none. */
export function decodeTelemetry(json: string): TelemetryMessage | undefined {
  try {
    const message: unknown = JSON.parse(json);
    if (!Value.Check(TelemetryMessage, message)) return undefined;
    const results = message.results.filter((result) => isResult.Check(result));
    return { pingerId: message.pingerId, results, unreadable: message.results.length - results.length };
  } catch {
    return undefined;
  }
}

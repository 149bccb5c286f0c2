/**
 * The messages in which a pinger publishes response times and the reports of units, on `telemetry.<pingerId>`. NATS keeps them for
 * minutes and they are not events: a lost message leaves out response times, and the next report of a unit replaces a lost one.
 */

import { type Static, Type } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { Value } from '@sinclair/typebox/value';
import { Token, UnitName } from '../../domain/vocabulary.ts';

/** The width of the buckets in which the platform keeps response times. */
export const BUCKET_MS = 300_000;
/** Most results in one message. */
export const MAX_TELEMETRY_RESULTS = 1_000;
/** A pinger id is a token of a NATS subject. */
export const PINGER_ID_PATTERN = '^[A-Za-z0-9_-]{1,64}$';
/** The end of the year 9999, milliseconds since 1970. */
const MAX_TIME_MS = 253_402_300_799_999;

const Moment = Type.Integer({ minimum: 0, maximum: MAX_TIME_MS, description: 'Milliseconds since 1970.' });
const Rtt = Type.Number({ minimum: 0, description: 'A response time, in milliseconds.' });
const Pings = Type.Integer({ minimum: 0, maximum: 1_000_000 });

const unitFields = { unit: UnitName, at: Moment };
/** What a unit reports about itself. */
const reportFields = {
  epoch: Type.Optional(Token),
  lastSeq: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  configurationHash: Type.Optional(Token),
  clockOffsetMs: Type.Optional(
    Type.Integer({
      minimum: -MAX_TIME_MS,
      maximum: MAX_TIME_MS,
      description: 'By how many milliseconds the clock of the unit is ahead of the platform’s.',
    }),
  ),
};

const TelemetryResult = Type.Union([
  Type.Object({
    heard: Type.Literal('pings'),
    ...unitFields,
    bucketAt: Moment,
    sent: Pings,
    lost: Pings,
    last: Type.Optional(Type.Object({ at: Moment, rttMs: Rtt, ...reportFields })),
    rttMs: Type.Optional(Type.Object({ min: Rtt, max: Rtt, sum: Rtt })),
    flapping: Type.Optional(Type.Boolean()),
  }),
  Type.Object({ heard: Type.Literal('heartbeat'), ...unitFields, ...reportFields }),
]);
/**
 * Either one heartbeat, and `at` is its arrival, or a summary of the pings of a unit since the last summary:
 *
 * - `sent` and `lost` count pings; all of them were sent in the bucket that begins at `bucketAt`, the last one at `at`.
 * - `last` describes the last answered ping, and `rttMs` the response times of all answered pings. Both are absent when the unit
 *   answered none.
 *
 * Summaries of one bucket are added up.
 */
export type TelemetryResult = Static<typeof TelemetryResult>;
export type TelemetryResultOf<H extends TelemetryResult['heard']> = Extract<TelemetryResult, { readonly heard: H }>;

/** Compiled, because thousands of results arrive in a second. */
const resultCheck = TypeCompiler.Compile(TelemetryResult);

const TelemetryMessage = Type.Object({
  pingerId: Type.String({ pattern: PINGER_ID_PATTERN }),
  results: Type.Array(Type.Unknown(), { maxItems: MAX_TELEMETRY_RESULTS }),
});

export interface TelemetryMessage {
  readonly pingerId: string;
  readonly results: readonly TelemetryResult[];
  /** How many results of the message were malformed. `results` does not contain them. */
  readonly unreadable: number;
}

/** The subject on which a pinger publishes its telemetry. */
export function telemetrySubject(pingerId: string): string {
  return `telemetry.${pingerId}`;
}

/** The subjects of all pingers. */
export const TELEMETRY_FILTER = 'telemetry.*';

/** Encodes a message as JSON. `results`: at most `MAX_TELEMETRY_RESULTS`. */
export function encodeTelemetry(pingerId: string, results: readonly TelemetryResult[]): string {
  return JSON.stringify({ pingerId, results });
}

/** @returns `undefined` when `json` is not a telemetry message */
export function decodeTelemetry(json: string): TelemetryMessage | undefined {
  try {
    const message: unknown = JSON.parse(json);
    if (!Value.Check(TelemetryMessage, message)) return undefined;
    const results = message.results.filter((result) => resultCheck.Check(result));
    return { pingerId: message.pingerId, results, unreadable: message.results.length - results.length };
  } catch {
    return undefined;
  }
}

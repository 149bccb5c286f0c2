/** What can go wrong with a unit and its connection, set by a test or a scenario. */

import { type Static, Type } from '@sinclair/typebox';
import { LockerId, MAX_LOCKERS_PER_UNIT } from '../../domain/vocabulary.ts';
import type { Random } from '../environment/random.ts';

const MAX_LATENCY_MS = 60_000;
const MAX_CLOCK_SKEW_MS = 366 * 86_400_000;

const settings = {
  offline: Type.Boolean({ description: 'no NATS connection, no answer over HTTP or UDP; customers go on' }),
  latencyMs: Type.Integer({ minimum: 0, maximum: MAX_LATENCY_MS, description: 'added to every answer and push' }),
  jitterMs: Type.Integer({ minimum: 0, maximum: MAX_LATENCY_MS, description: 'at most so much more' }),
  lossRate: Type.Number({ minimum: 0, maximum: 1, description: 'of requests, and of answers' }),
  clockSkewMs: Type.Integer({
    minimum: -MAX_CLOCK_SKEW_MS,
    maximum: MAX_CLOCK_SKEW_MS,
    description: 'how far the clock of the unit is ahead',
  }),
  jammed: Type.Array(LockerId, { maxItems: MAX_LOCKERS_PER_UNIT, description: 'doors that do not open' }),
  declinePayments: Type.Boolean({ description: 'the terminal declines' }),
  duplicatePushes: Type.Boolean({ description: 'every batch is pushed twice' }),
  reorderPushes: Type.Boolean({ description: 'the later half of a batch is pushed before the earlier half' }),
  applying: Type.Union(
    [
      Type.Literal('well'),
      Type.Literal('refuses', { description: 'the unit says that it cannot run such a configuration' }),
      Type.Literal('fails', { description: 'it begins to apply it, cannot, and goes on with the one that it had' }),
      Type.Literal('other-hash', { description: 'it says that it took it, and names another hash' }),
      Type.Literal('garbage', { description: 'its answer is none, and it applies nothing' }),
      Type.Literal('crash-before', { description: 'it reboots before it has stored anything, and answers nothing' }),
      Type.Literal('crash-after', { description: 'it reboots when it has stored it, and answers nothing' }),
    ],
    { description: 'what becomes of a configuration that is sent to it' },
  ),
};
const strict = { additionalProperties: false };

export const Faults = Type.Object(settings, strict);
export type Faults = Static<typeof Faults>;

/** Sets what it names and leaves the rest. */
export const FaultChange = Type.Partial(Type.Object(settings), strict);
export type FaultChange = Static<typeof FaultChange>;

export const NO_FAULTS: Faults = {
  offline: false,
  latencyMs: 0,
  jitterMs: 0,
  lossRate: 0,
  clockSkewMs: 0,
  jammed: [],
  declinePayments: false,
  duplicatePushes: false,
  reorderPushes: false,
  applying: 'well',
};

/** How long the network takes for one message and its answer. */
export function networkDelayMs({ latencyMs, jitterMs }: Faults, random: Random): number {
  return latencyMs + (jitterMs === 0 ? 0 : random.between(0, jitterMs));
}

/** Whether the network loses a message. */
export function isMessageLost({ lossRate }: Faults, random: Random): boolean {
  return lossRate > 0 && random.chance(lossRate);
}

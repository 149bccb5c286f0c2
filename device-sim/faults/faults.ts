/** Faults of a unit, its clock and its network. A test or an operator sets them through the control API. */

import { type Static, Type } from '@sinclair/typebox';
import { LockerId, MAX_LOCKERS_PER_UNIT } from '../../domain/vocabulary.ts';
import type { Random } from '../environment/random.ts';

const MAX_LATENCY_MS = 60_000;
const MAX_LOST_ANSWERS = 1_000;
const MAX_CLOCK_SKEW_MS = 366 * 86_400_000;

const fields = {
  offline: Type.Boolean({
    description: 'The unit has no NATS connection and answers neither HTTP nor UDP. Customers go on using it.',
  }),
  latencyMs: Type.Integer({
    minimum: 0,
    maximum: MAX_LATENCY_MS,
    description: 'Delay that the network adds to every answer and every push.',
  }),
  jitterMs: Type.Integer({
    minimum: 0,
    maximum: MAX_LATENCY_MS,
    description: 'Upper bound of a random delay on top of `latencyMs`.',
  }),
  lossRate: Type.Number({
    minimum: 0,
    maximum: 1,
    description: 'Probability with which the network loses a request, and with which it loses an answer.',
  }),
  loseNextAnswers: Type.Integer({
    minimum: 0,
    maximum: MAX_LOST_ANSWERS,
    description:
      'How many answers to commands the network loses next. The unit executes these commands. Each lost answer lowers the number by one.',
  }),
  clockSkewMs: Type.Integer({
    minimum: -MAX_CLOCK_SKEW_MS,
    maximum: MAX_CLOCK_SKEW_MS,
    description: 'How far the clock of the unit is ahead of the right time.',
  }),
  jammed: Type.Array(LockerId, { maxItems: MAX_LOCKERS_PER_UNIT, description: 'Lockers whose door does not open.' }),
  declinePayments: Type.Boolean({ description: 'The payment terminal declines every payment.' }),
  duplicatePushes: Type.Boolean({ description: 'The unit pushes every batch twice.' }),
  reorderPushes: Type.Boolean({ description: 'The unit pushes the later half of a batch before the earlier half.' }),
  applying: Type.Union(
    [
      Type.Literal('well', { description: 'The unit applies the configuration.' }),
      Type.Literal('refuses', { description: 'The unit answers that it does not support the configuration.' }),
      Type.Literal('fails', { description: 'The unit cannot apply the configuration and keeps the one it had.' }),
      Type.Literal('other-hash', { description: 'The unit answers `done`, names another hash and applies nothing.' }),
      Type.Literal('garbage', { description: 'The unit answers with a text that is no answer, and applies nothing.' }),
      Type.Literal('crash-before', {
        description: 'The unit reboots before it has stored the configuration, and does not answer.',
      }),
      Type.Literal('crash-after', {
        description: 'The unit stores the configuration, then reboots, and does not answer.',
      }),
    ],
    { description: 'What happens to a configuration that the platform sends.' },
  ),
};
const strict = { additionalProperties: false };

export const Faults = Type.Object(fields, strict);
export type Faults = Static<typeof Faults>;

/** The faults to set; the others stay as they are. */
export const FaultChange = Type.Partial(Type.Object(fields), strict);
export type FaultChange = Static<typeof FaultChange>;

export const NO_FAULTS: Faults = {
  offline: false,
  latencyMs: 0,
  jitterMs: 0,
  lossRate: 0,
  loseNextAnswers: 0,
  clockSkewMs: 0,
  jammed: [],
  declinePayments: false,
  duplicatePushes: false,
  reorderPushes: false,
  applying: 'well',
};

/** How long the network takes to carry a message and its answer, in ms. */
export function networkDelayMs({ latencyMs, jitterMs }: Faults, random: Random): number {
  return latencyMs + (jitterMs === 0 ? 0 : random.between(0, jitterMs));
}

/** Whether the network loses this message. */
export function isMessageLost({ lossRate }: Faults, random: Random): boolean {
  return lossRate > 0 && random.isChosen(lossRate);
}

/**
 * A rollout changes the configuration of many units at a pace, and aborts itself when too many units fail.
 *
 *   running ◀──resume── paused            running, paused ──abort──▶ aborting ──all withdrawn──▶ aborted
 *      │ └───pause───────▲ │
 *      │                   └─ too many units failed, or an operator aborted: aborting
 *      └──every unit has an outcome──▶ completed
 */

import { type Static, Type } from '@sinclair/typebox';
import { ConfigurationValues } from '../configuration-values.ts';
import type { FieldError } from '../field-errors.ts';
import { Refusal } from '../refusal.ts';
import { defaultConfiguration } from './default-configuration.ts';
import { validateConfiguration } from './validation.ts';

const MAX_UNITS_PER_MINUTE = 60_000;
const MAX_WAVES = 20;
const MAX_WAVE_UNITS = 1_000_000;
const MAX_WAVE_WAIT_S = 7 * 86_400;
const MS_PER_S = 1_000;
const MS_PER_MINUTE = 60_000;

const strict = { additionalProperties: false };

/** The changes of a rollout. A unit keeps the values that they do not name. */
export const RolloutChanges = Type.Partial(ConfigurationValues, {
  ...strict,
  minProperties: 1,
  description: 'The values that the rollout changes. Each unit keeps its other values.',
});
export type RolloutChanges = Static<typeof RolloutChanges>;

export const Rate = Type.Object(
  { unitsPerMinute: Type.Integer({ minimum: 1, maximum: MAX_UNITS_PER_MINUTE }) },
  { ...strict, description: 'The number of units a minute, evenly spread.' },
);
export const Waves = Type.Array(
  Type.Object(
    {
      units: Type.Integer({ minimum: 1, maximum: MAX_WAVE_UNITS }),
      waitS: Type.Integer({
        minimum: 1,
        maximum: MAX_WAVE_WAIT_S,
        description: 'The wait until the next wave, in seconds.',
      }),
    },
    strict,
  ),
  {
    minItems: 1,
    maxItems: MAX_WAVES,
    description: 'Each wave changes a number of units at the same time, and waits. The last wave repeats.',
  },
);

/** The pace at which a rollout changes units. */
export type Pace = { readonly rate: Static<typeof Rate> } | { readonly waves: Static<typeof Waves> };

export const AbortThreshold = Type.Object(
  {
    failedShare: Type.Number({
      minimum: 0,
      maximum: 1,
      description: 'The share of the changed units that failed, from 0 to 1.',
    }),
    minimumFailed: Type.Integer({
      minimum: 1,
      maximum: MAX_WAVE_UNITS,
      description: 'The number of failed units below which the rollout never aborts itself.',
    }),
  },
  {
    ...strict,
    description:
      'The rollout aborts itself when both bounds are reached. A unit has failed when it rejected the configuration or could not apply it. A unit that does not answer has not failed.',
  },
);
export type AbortThreshold = Static<typeof AbortThreshold>;

export const DEFAULT_PACE: Pace = { rate: { unitsPerMinute: 600 } };
export const DEFAULT_ABORT_THRESHOLD: AbortThreshold = { failedShare: 0.1, minimumFailed: 3 };

export const ROLLOUT_STATUSES = ['running', 'paused', 'aborting', 'aborted', 'completed'] as const;
export type RolloutStatus = (typeof ROLLOUT_STATUSES)[number];
/** The state of a unit in a rollout. */
export const ROLLOUT_UNIT_STATUSES = [
  'waiting',
  'skipped',
  'pending',
  'queued',
  'failed',
  'rejected',
  'applied',
  'drifted',
  'replaced',
  'withdrawn',
] as const;
export type RolloutUnitStatus = (typeof ROLLOUT_UNIT_STATUSES)[number];

export type RolloutAction = 'pause' | 'resume' | 'abort';

/**
 * The status after an action of an operator. An action that leads to the present status changes nothing.
 * @throws Refusal `precondition-failed` when the rollout has ended or is aborting
 */
export function statusAfterAction(status: RolloutStatus, action: RolloutAction): RolloutStatus {
  const target = ({ pause: 'paused', resume: 'running', abort: 'aborting' } as const)[action];
  const isThere = status === target || (action === 'abort' && status === 'aborted');
  if (isThere) return status;
  if (status === 'running' || status === 'paused') return target;
  throw new Refusal('precondition-failed', `The rollout is ${status}.`);
}

/** How many units a rollout may have changed after running for a time, without pauses. */
export function unitsDue(pace: Pace, ranMs: number): number {
  if ('rate' in pace) return Math.ceil((ranMs * pace.rate.unitsPerMinute) / MS_PER_MINUTE);
  let due = 0;
  let startsAtMs = 0;
  for (const [index, { units, waitS }] of pace.waves.entries()) {
    if (ranMs < startsAtMs) return due;
    const isLast = index === pace.waves.length - 1;
    if (isLast) return due + units * (1 + Math.floor((ranMs - startsAtMs) / (waitS * MS_PER_S)));
    due += units;
    startsAtMs += waitS * MS_PER_S;
  }
  return due;
}

/** Whether so many units failed that the rollout aborts. `started` is the number of units that it changed. */
export function isAbortThresholdReached(
  { failedShare, minimumFailed }: AbortThreshold,
  { failed, started }: { readonly failed: number; readonly started: number },
): boolean {
  return failed >= minimumFailed && failed >= failedShare * started;
}

/** Validates changes without the other values of a unit. Returns errors by JSON pointer. */
export function validateRolloutChanges(changes: RolloutChanges): FieldError[] {
  const { values } = defaultConfiguration(MS_PER_S);
  const widest = { ...values, minimumMinutes: 1, maximumMinutes: Number.MAX_SAFE_INTEGER };
  return validateConfiguration({ ...widest, ...changes });
}

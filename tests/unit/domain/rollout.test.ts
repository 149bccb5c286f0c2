/** How fast a rollout goes, when it stops by itself, and what may be done to it. */

import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import {
  isAbortThresholdReached,
  type Pace,
  ROLLOUT_STATUSES,
  type RolloutAction,
  type RolloutStatus,
  statusAfterAction,
  unitsDue,
  validateRolloutChanges,
} from '../../../domain/configuration/rollout.ts';
import { Refusal } from '../../../domain/refusal.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();
const MINUTE_MS = 60_000;

describe('the pace of a rollout', () => {
  test('at a rate spaces units evenly', () => {
    const pace = { rate: { unitsPerMinute: 60 } };
    const due = [0, 1, 1_000, 1_500, 2_000, MINUTE_MS].map((ms) => unitsDue(pace, ms));
    expect(due).toEqual([0, 1, 1, 2, 2, 60]);
  });

  test('in waves waits between waves, and repeats the last size', () => {
    const pace = {
      waves: [
        { units: 5, waitS: 600 },
        { units: 20, waitS: 300 },
        { units: 100, waitS: 60 },
      ],
    };
    const at = (seconds: number) => unitsDue(pace, seconds * 1_000);
    expect([0, 599, 600, 899, 900, 959, 960, 1_020].map(at)).toEqual([5, 5, 25, 25, 125, 125, 225, 325]);
  });

  test('never lowers the number of units that are due', () => {
    const pace: fc.Arbitrary<Pace> = fc.oneof(
      fc.record({ rate: fc.record({ unitsPerMinute: fc.integer({ min: 1, max: 60_000 }) }) }),
      fc.record({
        waves: fc.array(
          fc.record({ units: fc.integer({ min: 1, max: 100 }), waitS: fc.integer({ min: 1, max: 1_000 }) }),
          { minLength: 1, maxLength: 5 },
        ),
      }),
    );
    const ms = fc.nat({ max: 10_000_000 });
    fc.assert(
      fc.property(pace, ms, ms, (of, a, b) => {
        expect(unitsDue(of, a + b)).toBeGreaterThanOrEqual(unitsDue(of, a));
      }),
      { seed },
    );
  });
});

describe('the threshold', () => {
  const threshold = { failedShare: 0.1, minimumFailed: 3 };
  test.each([
    [2, 2, false],
    [3, 31, false],
    [3, 30, true],
    [3, 3, true],
    [100, 1_001, false],
  ])('with %i failed of %i: %p', (failed, started, isOver) => {
    expect(isAbortThresholdReached(threshold, { failed, started })).toBe(isOver);
  });
});

describe('an action', () => {
  const NO = undefined;
  const TABLE: Record<RolloutStatus, Record<RolloutAction, RolloutStatus | undefined>> = {
    running: { pause: 'paused', resume: 'running', abort: 'aborting' },
    paused: { pause: 'paused', resume: 'running', abort: 'aborting' },
    aborting: { pause: NO, resume: NO, abort: 'aborting' },
    aborted: { pause: NO, resume: NO, abort: 'aborted' },
    completed: { pause: NO, resume: NO, abort: NO },
  };
  test.each(ROLLOUT_STATUSES)('on one that is %s', (status) => {
    for (const action of ['pause', 'resume', 'abort'] as const) {
      const wanted = TABLE[status][action];
      if (wanted === undefined) expect(() => statusAfterAction(status, action)).toThrow(Refusal);
      else expect(statusAfterAction(status, action)).toBe(wanted);
    }
  });
});

describe('the changes of a rollout', () => {
  test('are accepted when they are valid for at least one unit', () => {
    expect(validateRolloutChanges({ minimumMinutes: 100_000 })).toEqual([]);
    expect(validateRolloutChanges({ maximumMinutes: 1 })).toEqual([]);
  });

  test('are refused with the reason when they are valid for no unit', () => {
    expect(validateRolloutChanges({ minimumMinutes: 60, maximumMinutes: 30 })).toMatchObject([
      { path: '/minimumMinutes' },
    ]);
  });
});

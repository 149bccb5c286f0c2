/** What a work queue does with the result or the error of an attempt. */

import { describe, expect, test } from 'bun:test';
import { Refusal } from '../../../domain/refusal.ts';
import { MalformedCommitError, StoreUnavailableError } from '../../../platform/event-store/store.ts';
import { NatsUnavailableError } from '../../../platform/nats/connection.ts';
import {
  type Attempts,
  classifyFailure,
  INFRASTRUCTURE_RETRIES,
  isExhausted,
  nextStep,
  PARKED_RETRIES,
  retryDelayMs,
  TERMINAL_RETRIES,
  UNKNOWN_RETRIES,
} from '../../../platform/nats/work-failures.ts';
import type { WorkResult } from '../../../platform/nats/work-queue.ts';
import { PostgresUnavailableError } from '../../../platform/postgres/connection.ts';
import { DecisionTooLargeError, EndlessDecisionError } from '../../../platform/units/decision-errors.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';

class StandbyError extends PostgresUnavailableError {}

describe('the class of an error', () => {
  const subject = { unit: 'U-1', aggregate: 'booking' } as const;
  const table: [error: unknown, expected: ReturnType<typeof classifyFailure>][] = [
    [new StoreUnavailableError('away'), 'infrastructure'],
    [new NatsUnavailableError('away'), 'infrastructure'],
    [new PostgresUnavailableError('away'), 'infrastructure'],
    [new StandbyError('away'), 'infrastructure'],
    [new RangeError('a commit has at most 500 events'), 'terminal'],
    [new TypeError('undefined is not an object'), 'terminal'],
    [new DecisionTooLargeError({ ...subject, events: [] }), 'terminal'],
    [new EndlessDecisionError({ ...subject, chunks: 3 }), 'terminal'],
    [new MalformedCommitError('not JSON'), 'terminal'],
    [Object.create(Refusal.prototype), 'terminal'],
    [new UnitUnreachableError('no answer'), 'unknown'],
    [new Error('anything else'), 'unknown'],
    [Object.assign(new Error('a name that every object has'), { name: 'constructor' }), 'unknown'],
    ['a text', 'unknown'],
  ];
  for (const [error, expected] of table) {
    test(`${error instanceof Error ? error.constructor.name : typeof error} is ${expected}`, () => {
      expect(classifyFailure(error)).toBe(expected);
    });
  }
});

describe('a retry schedule', () => {
  test('doubles its pause up to the longest, of which the second half is jitter', () => {
    const schedule = { firstMs: 100, maxMs: 1_000 };
    expect([1, 2, 3, 4, 5, 60].map((failures) => retryDelayMs(schedule, failures, 1))).toEqual([
      100, 200, 400, 800, 1_000, 1_000,
    ]);
    expect([1, 2, 60].map((failures) => retryDelayMs(schedule, failures, 0))).toEqual([50, 100, 500]);
  });

  test('is exhausted after its last attempt, and never without a bound', () => {
    expect([1, 2, 3].map((failures) => isExhausted({ firstMs: 1, maxMs: 1, maxAttempts: 2 }, failures))).toEqual([
      false,
      true,
      true,
    ]);
    expect(isExhausted(INFRASTRUCTURE_RETRIES, 1_000_000)).toBe(false);
  });
});

describe('after an attempt', () => {
  const random = () => 1;
  const none: Attempts = { failures: 0, faults: 0 };
  const after = (attempt: () => Promise<WorkResult>, before = none, isParked = false) =>
    nextStep(attempt, before, { random, isParked });
  const throwing = (error: unknown) => async () => {
    throw error;
  };

  test('that is done, nothing remains', async () => {
    const { step, attempts } = await after(async () => 'done', { failures: 3, faults: 2 });
    expect(step).toEqual({ kind: 'done' });
    expect(attempts).toEqual(none);
  });

  test('that came too early, the work waits and no failure counts', async () => {
    const { step, attempts } = await after(async () => ({ retryInMs: 700 }), { failures: 3, faults: 2 });
    expect(step).toMatchObject({ kind: 'wait', ms: 700, isFailure: false });
    expect(attempts).toEqual({ failures: 3, faults: 0 });
  });

  test('during a fault of a service, the work is retried without end and no failure counts', async () => {
    let attempts = { failures: 1, faults: 0 };
    for (let fault = 1; fault <= 200; fault += 1) {
      const result = await after(throwing(new StoreUnavailableError('away')), attempts, true);
      const ms = retryDelayMs(INFRASTRUCTURE_RETRIES, fault, 1);
      expect(result.step).toMatchObject({ kind: 'wait', ms, isFailure: true, isFault: true });
      attempts = result.attempts;
    }
    expect(attempts).toEqual({ failures: 1, faults: 200 });
  });

  test('with a terminal error, the work is parked at once and retried at the slowest pace', async () => {
    const { step } = await after(throwing(new RangeError('too many events')));
    expect(step).toMatchObject({ kind: 'park', retryInMs: TERMINAL_RETRIES.maxMs });
    expect(step).toHaveProperty('error.message', 'too many events');
  });

  test('with an unknown error, the work is retried a bounded number of times and then parked', async () => {
    let attempts = none;
    const kinds: string[] = [];
    for (let attempt = 1; attempt <= (UNKNOWN_RETRIES.maxAttempts ?? 0); attempt += 1) {
      const result = await after(throwing(new Error('odd')), attempts);
      kinds.push(result.step.kind);
      attempts = result.attempts;
    }
    expect(kinds).toEqual(['wait', 'wait', 'wait', 'wait', 'park']);
  });

  test('with an unknown error while work of the unit is parked, the work is parked at once', async () => {
    expect((await after(throwing(new Error('odd')), none, true)).step.kind).toBe('park');
  });

  test('that a handler wants retried, the schedule says when, how often, and what follows', async () => {
    const retry = { firstMs: 10, maxMs: 20, maxAttempts: 2 };
    const first = await after(async () => ({ retry, reason: 'no answer' }));
    expect(first.step).toMatchObject({ kind: 'wait', ms: 10, reason: 'no answer', isFailure: true });
    const second = await after(async () => ({ retry, reason: 'no answer' }), first.attempts);
    expect(second.step).toMatchObject({ kind: 'park', reason: 'no answer', retryInMs: PARKED_RETRIES.firstMs });
    const dropping = { ...retry, whenExhausted: 'done' } as const;
    expect((await after(async () => ({ retry: dropping, reason: 'no answer' }), first.attempts)).step.kind).toBe(
      'done',
    );
  });

  test('that a handler wants parked, the reason is that of the handler', async () => {
    const { step } = await after(async () => ({ park: 'The revocation list is full.' }));
    expect(step).toMatchObject({ kind: 'park', reason: 'The revocation list is full.' });
  });
});

import { describe, expect, test } from 'bun:test';
import { UnitBudgets } from '../../../platform/unit-log/unit-budgets.ts';
import { EVENT_BURST, IngestAdmission } from '../../../server/workers/ingest/ingest-admission.ts';

let nowMs = 0;
const monotonic = () => nowMs;
const budgets = (burst = 100, perS = 10) => new UnitBudgets({ burst, perS, monotonic });

describe('the budget of a unit', () => {
  test('lets a burst pass, and then makes the unit wait until its balance is positive', () => {
    const budget = budgets();
    budget.charge('A', 99);
    expect(budget.waitMs('A')).toBe(0);
    budget.charge('A', 21);
    expect(budget.waitMs('A')).toBe(2_001);
    nowMs += 2_000;
    expect(budget.waitMs('A')).toBe(1);
    nowMs += 1;
    expect(budget.waitMs('A')).toBe(0);
  });

  test('a unit gets no more than its rate on average, also when one charge exceeds the burst', () => {
    const budget = budgets();
    const startMs = nowMs;
    let charged = 0;
    while (nowMs < startMs + 1_000_000) {
      budget.charge('A', 500);
      charged += 500;
      nowMs += budget.waitMs('A');
    }
    expect(charged).toBeWithin(1_000 * 10, 1_000 * 10 + 100 + 2 * 500);
  });

  test('does not grow beyond the burst, and is its own for each unit', () => {
    const budget = budgets();
    budget.charge('A', 50);
    nowMs += 1_000_000;
    budget.charge('A', 100);
    expect(budget.waitMs('A')).toBeGreaterThan(0);
    expect(budget.waitMs('B')).toBe(0);
    expect(budget.countWaiting()).toBe(1);
  });
});

describe('the admission of batches', () => {
  const admit = () => new IngestAdmission({ events: budgets(EVENT_BURST, 200), monotonic });
  const read = (admission: IngestAdmission) => admission.metrics().read();

  test('delays a unit beyond its budget of events and counts it', async () => {
    const admission = admit();
    admission.chargeEvents('A', EVENT_BURST - 1);
    expect(admission.waitMs('A')).toBe(0);
    admission.chargeEvents('A', 401);
    expect(admission.waitMs('A')).toBe(2_001);
    expect(admission.waitMs('B')).toBe(0);
    expect(await read(admission)).toEqual({
      ingest_delayed_batches_total: 1,
      ingest_throttled_units: 1,
      ingest_suspended_units: 0,
    });
  });

  test('suspends a unit for a pause that doubles up to five minutes, until its batches are recorded', () => {
    const admission = admit();
    const pauses = Array.from({ length: 5 }, () => {
      admission.suspend('A');
      // Another batch of the unit that was being handled does not lengthen the pause.
      admission.suspend('A');
      const pauseMs = admission.waitMs('A');
      nowMs += pauseMs;
      expect(admission.waitMs('A')).toBe(0);
      return pauseMs;
    });
    expect(pauses).toEqual([60_000, 120_000, 240_000, 300_000, 300_000]);
    admission.resume('A');
    admission.suspend('A');
    expect(admission.waitMs('A')).toBe(60_000);
    expect(admission.waitMs('B')).toBe(0);
  });
});

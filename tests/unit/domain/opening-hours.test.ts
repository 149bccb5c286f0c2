import { describe, expect, test } from 'bun:test';
import { closedEndOf, isOpenAt, type OpeningRules, requireOpen } from '../../../domain/configuration/opening-hours.ts';
import { Refusal } from '../../../domain/refusal.ts';
import { toMs } from '../../../domain/vocabulary.ts';

const WARSAW = 'Europe/Warsaw';
const DAILY: OpeningRules = {
  openingHours: [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, opens: '08:00', closes: '20:00' })),
};
const MONDAY_ONLY: OpeningRules = { openingHours: [{ weekday: 1, opens: '08:00', closes: '24:00' }] };

function periodFrom(from: string, until: string) {
  return { fromMs: toMs(from), untilMs: toMs(until) };
}

describe('a unit in Warsaw that opens at 08:00 and closes at 20:00', () => {
  test.each([
    // Winter time is UTC+1, summer time UTC+2; the clock moves forward on 29 March 2026 and back on 25 October 2026.
    ['2026-03-28T06:59:59.999Z', false],
    ['2026-03-28T07:00:00.000Z', true],
    ['2026-03-29T05:59:59.999Z', false],
    ['2026-03-29T06:00:00.000Z', true],
    ['2026-10-24T06:00:00.000Z', true],
    ['2026-10-25T06:00:00.000Z', false],
    ['2026-10-25T07:00:00.000Z', true],
    ['2026-10-25T18:59:59.999Z', true],
    ['2026-10-25T19:00:00.000Z', false],
  ])('at %s it is open: %p', (at, isOpen) => {
    expect(isOpenAt(DAILY.openingHours, WARSAW, toMs(at))).toBe(isOpen);
  });

  test.each([
    ['the whole day', '2026-07-01T06:00:00.000Z', '2026-07-01T18:00:00.000Z', undefined],
    ['over the night', '2026-07-01T17:00:00.000Z', '2026-07-02T07:00:00.000Z', undefined],
    ['from 02:00', '2026-07-01T00:00:00.000Z', '2026-07-01T08:00:00.000Z', 'from'],
    ['until a minute after closing', '2026-07-01T06:00:00.000Z', '2026-07-01T18:01:00.000Z', 'until'],
  ] as const)('a period %s', (_, from, until, closed) => {
    expect(closedEndOf(DAILY, WARSAW, periodFrom(from, until))).toBe(closed);
  });

  test('a rental may end while it is closed when the configuration says so, and still may not begin', () => {
    const rules = { ...DAILY, rentalsMayEndOutsideHours: true };
    expect(closedEndOf(rules, WARSAW, periodFrom('2026-07-01T17:00:00.000Z', '2026-07-01T22:00:00.000Z'))).toBe(
      undefined,
    );
    expect(closedEndOf(rules, WARSAW, periodFrom('2026-07-01T22:00:00.000Z', '2026-07-02T07:00:00.000Z'))).toBe('from');
  });

  test('the refusal names the hours of that day', () => {
    const period = periodFrom('2026-07-01T00:00:00.000Z', '2026-07-01T08:00:00.000Z');
    let refusal: unknown;
    try {
      requireOpen(DAILY, WARSAW, period);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(Refusal);
    expect((refusal as Refusal).kind).toBe('closed');
    expect((refusal as Refusal).message).toContain('Wednesday from 08:00 to 20:00');
  });
});

test('a unit without opening hours is always open', () => {
  expect(isOpenAt([], WARSAW, toMs('2026-07-01T01:00:00.000Z'))).toBe(true);
});

test('24:00 is the end of the day, and other days are closed', () => {
  // 29 June 2026 is a Monday.
  const until = '2026-06-29T22:00:00.000Z';
  expect(closedEndOf(MONDAY_ONLY, WARSAW, periodFrom('2026-06-29T10:00:00.000Z', until))).toBe(undefined);
  expect(isOpenAt(MONDAY_ONLY.openingHours, WARSAW, toMs(until))).toBe(false);
  expect(() => requireOpen(MONDAY_ONLY, WARSAW, periodFrom(until, '2026-06-30T10:00:00.000Z'))).toThrow(
    'It does not open on Tuesday',
  );
});

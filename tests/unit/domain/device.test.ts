import { describe, expect, test } from 'bun:test';
import { recordedSeq } from '../../../domain/device/epochs.ts';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { evolveUnit, type UnitState } from '../../../domain/unit/unit.ts';
import { EPOCH, given, type Past, unitAfter } from '../../support/given.ts';
import { at, atMs, DAY_MS, givenBack, NOW_MS, R1, R2, taken } from '../../support/scene.ts';

/** Folds an event as it would be stored, whatever its type. */
function folded(event: CloudEvent, state = unitAfter([])): UnitState {
  return evolveUnit(state, { aggregate: 'device', sequence: 1_000, events: [event] });
}

const NEXT_EPOCH = '018f0000-0000-7000-8000-000000000002';

type Reported = EventOf<'UnitStateReported'>['lockers'][number];

function stateReported(minutes: number, lockers: readonly Reported[], epoch = EPOCH): Past {
  const data = { reason: 'new-epoch' as const, configurationHash: 'c', lockers: [...lockers] };
  return { type: 'UnitStateReported', atMs: atMs(minutes), epoch, data };
}

describe('the position in the log', () => {
  test('is the last seq of each epoch', () => {
    const { device } = given(
      taken('A', { fromMin: 0, untilMin: 60 }),
      givenBack('A', 1),
      stateReported(2, [], NEXT_EPOCH),
    ).state;
    expect(recordedSeq(device, EPOCH)).toBe(2);
    expect(recordedSeq(device, NEXT_EPOCH)).toBe(1);
    expect(recordedSeq(device, 'another')).toBe(0);
    expect(device.epoch).toBe(NEXT_EPOCH);
    expect(device.lastEventAt).toBe(at(2));
  });

  const event: CloudEvent = {
    specversion: '1.0',
    id: `PL-1000/${EPOCH}/7`,
    source: '/lockfleet/units/PL-1000',
    type: 'RentalStarted',
    subject: 'PL-1000/A',
    time: at(0),
    dataschema: 'RentalStarted/1',
    data: { rentalId: 'r', until: at(60) },
    unitepoch: EPOCH,
    unitseq: 7,
  };

  test.each([
    ['of a type', { type: 'CoffeeBrewed', dataschema: 'CoffeeBrewed/1' }],
    ['of a version', { dataschema: 'RentalStarted/99' }],
  ])('counts events %s that this code does not know', (_, unknown) => {
    expect(folded({ ...event, ...unknown }).device).toMatchObject({ epochs: { [EPOCH]: 7 }, lockers: {} });
    expect(folded(event).device.lockers).toHaveProperty('A');
  });

  test('never goes back', () => {
    const { state } = given(taken('A', { fromMin: 0, untilMin: 60 }), givenBack('A', 1));
    expect(folded({ ...event, unitseq: 1 }, state).device.epochs).toEqual({ [EPOCH]: 2 });
  });
});

describe('the state of doors and rentals', () => {
  test('follow the events of the unit', () => {
    const opened: Past = { type: 'LockerOpened', locker: 'A', data: { cause: 'walk-up' } };
    const closed: Past = { type: 'LockerClosed', locker: 'A', data: {} };
    expect(given(opened).state.device.lockers.A).toEqual({ door: 'open' });
    expect(given(opened, closed).state.device.lockers.A).toEqual({ door: 'closed' });
    expect(given(opened, taken('A', { fromMin: 0, untilMin: 60 })).state.device.lockers.A).toEqual({
      door: 'open',
      rental: { rentalId: 'rental-A', startedAt: at(0), until: at(60) },
    });
    expect(given(opened, taken('A', { fromMin: 0, untilMin: 60 }), givenBack('A', 1)).state.device.lockers.A).toEqual({
      door: 'open',
    });
  });

  test('do not change by events that name no locker', () => {
    const { device } = given(
      { type: 'LockerOpened', data: { cause: 'service' } },
      { type: 'LockerClosed', data: {} },
      { type: 'RentalStarted', data: { rentalId: 'r', until: at(9) } },
      { type: 'RentalEnded', data: { rentalId: 'r', reason: 'given-back' } },
    ).state;
    expect(device.lockers).toEqual({});
  });

  test('keep the present rental when another rental ends', () => {
    const { device } = given(
      taken('A', { fromMin: 0, untilMin: 60, id: 'new' }),
      givenBack('A', 1, undefined, 'old'),
    ).state;
    expect(device.lockers.A?.rental?.rentalId).toBe('new');
  });

  test.each(['constructor', 'toString', 'valueOf'])('a locker may be called %s', (locker) => {
    const { device } = given(taken(locker, { fromMin: 0, untilMin: 60 })).state;
    expect(device.lockers[locker]).toEqual({
      door: 'unknown',
      rental: { rentalId: `rental-${locker}`, startedAt: at(0), until: at(60) },
    });
  });
});

const usesById = ({ device }: Pick<UnitState, 'device'>) =>
  Object.fromEntries(device.usages.map(({ reservationId, ...use }) => [reservationId, use]));

describe('the use of a reservation', () => {
  const start = taken('A', { fromMin: 0, untilMin: 60, reservationId: R1 });

  test('runs from the start to the end of its rental', () => {
    expect(usesById(given(start).state)[R1]).toEqual({ startedAt: at(0), locker: 'A' });
    expect(usesById(given(start, givenBack('A', 5, R1)).state)[R1]).toEqual({
      startedAt: at(0),
      locker: 'A',
      endedAt: at(5),
    });
  });

  test('ends also when the end does not name the reservation again', () => {
    expect(usesById(given(start, givenBack('A', 5)).state)[R1]?.endedAt).toBe(at(5));
  });

  test('ends when the next rental of the locker starts, though its end was never reported', () => {
    const next = taken('A', { fromMin: 7, untilMin: 60, id: 'next', reservationId: R2 });
    const uses = usesById(given(start, next).state);
    expect(uses[R1]?.endedAt).toBe(at(7));
    expect(uses[R2]).toEqual({ startedAt: at(7), locker: 'A' });
  });

  test('continues when the same rental is reported again', () => {
    expect(usesById(given(start, start).state)[R1]).toEqual({ startedAt: at(0), locker: 'A' });
  });

  test('is known from its end alone', () => {
    expect(usesById(given(givenBack('A', 5, R1)).state)[R1]).toEqual({
      startedAt: at(5),
      locker: 'A',
      endedAt: at(5),
    });
    expect(usesById(given(givenBack('A', 5, 'constructor')).state).constructor).toEqual({
      startedAt: at(5),
      locker: 'A',
      endedAt: at(5),
    } as never);
  });
});

describe('a state report', () => {
  const rental = { rentalId: 'r', reservationId: R1, startedAt: at(-5), until: at(60) };

  test('replaces the known doors and rentals', () => {
    const { device } = given(
      taken('A', { fromMin: 0, untilMin: 60, reservationId: R2 }),
      taken('B', { fromMin: 0, untilMin: 60 }),
      stateReported(9, [
        { id: 'A', door: 'closed' },
        { id: 'C', door: 'open', rental },
      ]),
    ).state;
    expect(device.lockers).toEqual({ A: { door: 'closed' }, C: { door: 'open', rental } });
    expect(usesById({ device })).toEqual({
      [R2]: { startedAt: at(0), locker: 'A', endedAt: at(9) },
      [R1]: { startedAt: at(-5), locker: 'C' },
    });
    expect(device.reportedConfiguration).toEqual({ hash: 'c', at: at(9) });
  });

  test('continues the rentals that it names', () => {
    const report = stateReported(9, [{ id: 'C', door: 'open', rental }]);
    const { device } = given(taken('C', { fromMin: -5, untilMin: 60, id: 'r', reservationId: R1 }), report).state;
    expect(usesById({ device })[R1]).toEqual({ startedAt: at(-5), locker: 'C' });
  });
});

describe('an earlier epoch', () => {
  const wiped = stateReported(10, [{ id: 'A', door: 'closed' }], NEXT_EPOCH);
  const late = (past: Past): Past => ({ ...past, epoch: EPOCH });

  test('has its late events recorded, which do not change doors and rentals', () => {
    const { device } = given(
      taken('B', { fromMin: 0, untilMin: 60 }),
      wiped,
      late({ type: 'LockerOpened', locker: 'A', atMs: atMs(5), data: { cause: 'walk-up' } }),
      late(taken('A', { fromMin: 5, untilMin: 90 })),
    ).state;
    expect(device.epochs).toEqual({ [EPOCH]: 3, [NEXT_EPOCH]: 1 });
    expect(device.epoch).toBe(NEXT_EPOCH);
    expect(device.lastEventAt).toBe(at(10));
    expect(device.lockers).toEqual({ A: { door: 'closed' } });
  });

  test('still proves that reservations were used', () => {
    const first: Past = { type: 'UnitRestarted', data: { bootId: 'b' } };
    const used = late(taken('A', { fromMin: 2, untilMin: 90, reservationId: R1 }));
    expect(usesById(given(first, wiped, used).state)[R1]).toEqual({
      startedAt: at(2),
      locker: 'A',
      endedAt: at(2),
    });
    expect(usesById(given(first, wiped, used, late(givenBack('A', 6, R1))).state)[R1]).toEqual({
      startedAt: at(2),
      locker: 'A',
      endedAt: at(6),
    });
  });

  test('proves no use by a late rental without a reservation, or one that names no locker', () => {
    const { device } = given(
      { type: 'UnitRestarted', data: { bootId: 'b' } },
      wiped,
      late(taken('A', { fromMin: 2, untilMin: 90 })),
      late({ type: 'RentalStarted', data: { rentalId: 'r', reservationId: R1, until: at(90) } }),
    ).state;
    expect(device.epochs).toEqual({ [EPOCH]: 3, [NEXT_EPOCH]: 1 });
    expect(device.usages).toEqual([]);
  });

  test('proves no use by a token that a customer showed', () => {
    const redeemed = late({ type: 'ReservationRedeemed', locker: 'A', data: { reservationId: R1 } });
    const { device } = given({ type: 'UnitRestarted', data: { bootId: 'b' } }, wiped, redeemed).state;
    expect(device.epochs).toEqual({ [EPOCH]: 2, [NEXT_EPOCH]: 1 });
    expect(device.usages).toEqual([]);
  });

  test('does not end rentals of the new epoch', () => {
    const { device } = given(
      taken('A', { fromMin: 0, untilMin: 60, reservationId: R1 }),
      stateReported(
        10,
        [{ id: 'A', door: 'closed', rental: { rentalId: 'x', reservationId: R1, startedAt: at(0), until: at(60) } }],
        NEXT_EPOCH,
      ),
      late(givenBack('A', 5, R1)),
    ).state;
    expect(usesById({ device })[R1]).toEqual({ startedAt: at(0), locker: 'A' });
  });
});

describe('the memory for uses', () => {
  const use = (index: number, startMs: number): Past[] => {
    const reservationId = `r-${index}`;
    const rentalId = `rental-${index}`;
    return [
      { type: 'RentalStarted', locker: 'A', atMs: startMs, data: { rentalId, reservationId, until: at(9_999) } },
      { type: 'RentalEnded', locker: 'A', atMs: startMs + 1, data: { rentalId, reservationId, reason: 'given-back' } },
    ];
  };
  const usesAfter = (count: number, everyMs: number) =>
    unitAfter(Array.from({ length: count }, (_, i) => use(i, NOW_MS + i * everyMs)).flat()).device.usages.map(
      ({ reservationId }) => reservationId,
    );

  test('keeps every use of a day, also when one batch brings many', () => {
    expect(usesAfter(250, 60_000)).toHaveLength(250);
  });

  test('forgets old uses, but not the newest', () => {
    const kept = usesAfter(150, DAY_MS);
    expect(kept).toHaveLength(64);
    expect(kept.at(0)).toBe('r-86');
    expect(kept.at(-1)).toBe('r-149');
  });

  test('forgets only as many old uses as exceed the bound', () => {
    // A fold that forgets one use too many has the right count again after the next use: odd and even counts differ.
    for (const count of [150, 151]) expect(usesAfter(count, DAY_MS)).toHaveLength(64);
  });

  test('is bounded, however many uses arrive', () => {
    expect(usesAfter(600, 1).length).toBe(500);
  });

  test('never forgets an open use', () => {
    const running = taken('B', { fromMin: 0, untilMin: 60, reservationId: R1 });
    const uses = usesById(unitAfter([running, ...Array.from({ length: 700 }, (_, i) => use(i, NOW_MS + i)).flat()]));
    expect(uses[R1]).toEqual({ startedAt: at(0), locker: 'B' });
  });

  test('has at most one open use for each locker, also when a faulty unit reports several', () => {
    const starts = Array.from({ length: 700 }, (_, index) =>
      taken('A', { fromMin: index, untilMin: 9_999, id: `x-${index}`, reservationId: `r-${index}` }),
    );
    const { usages: uses } = unitAfter(starts).device;
    expect(uses.filter(({ endedAt }) => endedAt === undefined)).toHaveLength(1);
    expect(uses.length).toBeLessThanOrEqual(501);
  });
});

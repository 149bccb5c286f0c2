import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { blocksLocker, periodOf } from '../../../domain/booking/allocation.ts';
import { allReservations, type Reservation } from '../../../domain/booking/reservation.ts';
import { nextSettlementAtMs, settleBookings } from '../../../domain/booking/settlement.ts';
import { overlaps } from '../../../domain/period.ts';
import { requireRegistered } from '../../../domain/registry/registry.ts';
import { displacementReason } from '../../../domain/registry/service.ts';
import { evolveUnit, type FoldableCommit, newUnitState } from '../../../domain/unit/unit.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import { UNIT } from '../../support/given.ts';
import { seededRandom } from '../../support/random.ts';
import { accessCodeOf, RandomHistory, type Step, steps } from './random-history.ts';

const RUNS = 400;
const { seed } = seededRandom();

function checkProperty(property: fc.IRawProperty<unknown>): void {
  fc.assert(property as fc.IProperty<unknown>, { seed, numRuns: RUNS });
}

function historyOf(actions: readonly Step[], oneClock = true): RandomHistory {
  const history = new RandomHistory(oneClock);
  for (const action of actions) history.perform(action);
  return history;
}

/** Pairs of reservations for the same locker whose periods overlap. */
function clashes(reservations: readonly Reservation[]): [Reservation, Reservation][] {
  return reservations.flatMap((one, index) =>
    reservations
      .slice(index + 1)
      .filter((other) => other.locker === one.locker && overlaps(periodOf(one), periodOf(other)))
      .map((other): [Reservation, Reservation] => [one, other]),
  );
}

function waiting({ status }: Reservation): boolean {
  return status === 'held' || status === 'confirmed';
}

test('a locker is never reserved twice for overlapping periods', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const history = new RandomHistory(true);
      for (const action of actions) {
        history.perform(action);
        const blocking = allReservations(history.state.booking).filter(
          (reservation) => waiting(reservation) && blocksLocker(reservation, history.nowMs),
        );
        expect(clashes(blocking)).toEqual([]);
      }
    }),
  );
});

test('a locker is never confirmed twice for overlapping periods, also when the clocks of processes differ', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const history = new RandomHistory(false);
      for (const action of actions) {
        history.perform(action);
        const all = allReservations(history.state.booking);
        expect(clashes(all.filter(({ status }) => status === 'confirmed'))).toEqual([]);
      }
    }),
  );
});

test('no two reservations that were confirmed and are not over have the same access code, whatever units report', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const history = new RandomHistory(false);
      for (const action of actions) {
        history.perform(action);
        const coded = history.state.booking.open.filter(({ confirmedAt }) => confirmedAt !== undefined);
        const codes = coded.map(({ id, accessCodeDraw = 0 }) => accessCodeOf(id, accessCodeDraw));
        expect(new Set(codes).size).toBe(codes.length);
      }
    }),
  );
});

test('after a settlement no held or confirmed reservation overlaps another one that blocks its locker', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const history = historyOf(actions);
      history.settle();
      const binding = allReservations(history.state.booking).filter((each) => blocksLocker(each, history.nowMs));
      const ahead = clashes(binding).filter((pair) =>
        pair.some((each) => waiting(each) && toMs(each.until) > history.nowMs),
      );
      expect(ahead).toEqual([]);
    }),
  );
});

test('after a settlement no held or confirmed reservation has a locker that was removed or is closed now', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const history = historyOf(actions);
      history.settle();
      const { registry, booking } = history.state;
      const unit = requireRegistered(registry);
      const displaced = booking.open.filter(
        (each) =>
          waiting(each) &&
          toMs(each.until) > history.nowMs &&
          displacementReason(unit, each.locker, periodOf(each)) !== undefined,
      );
      expect(displaced).toEqual([]);
    }),
  );
});

test('a second settlement decides nothing', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const history = historyOf(actions, false);
      history.settle();
      expect(settleBookings(history.state, history.nowMs)).toEqual([]);
    }),
  );
});

test('between a settlement and the next time that the unit names, time changes nothing; at that time it does', () => {
  checkProperty(
    fc.property(steps, fc.double({ min: 0, max: 1, noNaN: true }), (actions, share) => {
      const history = historyOf(actions, false);
      history.settle();
      const { state, nowMs } = history;
      const dueMs = nextSettlementAtMs(state, nowMs);
      const quietMs = dueMs ?? nowMs + 400 * 86_400_000;
      expect(quietMs).toBeGreaterThan(nowMs);
      expect(settleBookings(state, Math.floor(nowMs + share * (quietMs - 1 - nowMs)))).toEqual([]);
      expect(nextSettlementAtMs(state) ?? quietMs).toBeLessThanOrEqual(quietMs);
    }),
  );
});

test('the state does not depend on the order in which the commits of different aggregates are interleaved', () => {
  checkProperty(
    fc.property(steps, fc.infiniteStream(fc.nat({ max: 5 })), (actions, choices) => {
      const { commits, state } = historyOf(actions, false);
      const folded = interleaved(commits, choices).reduce(evolveUnit, newUnitState(UNIT));
      expect(folded).toEqual(state);
    }),
  );
});

/** The same commits in another order: those of one aggregate keep their order, and the registration stays first. */
function interleaved(commits: readonly FoldableCommit[], choices: Iterator<number>): FoldableCommit[] {
  const [first, ...rest] = commits;
  const queues = [...Map.groupBy(rest, ({ aggregate }) => aggregate).values()];
  const mixed = first === undefined ? [] : [first];
  while (mixed.length < commits.length) {
    const open = queues.filter((queue) => queue.length > 0);
    const next = open[Number(choices.next().value) % open.length]?.shift();
    if (next !== undefined) mixed.push(next);
  }
  return mixed;
}

test('a commit that is delivered again changes nothing', () => {
  checkProperty(
    fc.property(steps, (actions) => {
      const { commits, state } = historyOf(actions, false);
      expect(commits.reduce(evolveUnit, state)).toBe(state);
    }),
  );
});

test('a state restored from its snapshot equals the state and folds the same', () => {
  checkProperty(
    fc.property(steps, fc.nat(), (actions, cut) => {
      const { commits, state } = historyOf(actions, false);
      const place = cut % (commits.length + 1);
      const before = commits.slice(0, place).reduce(evolveUnit, newUnitState(UNIT));
      const snapshot = JSON.parse(JSON.stringify(before)) as typeof before;
      expect(snapshot).toStrictEqual(before);
      expect(commits.slice(place).reduce(evolveUnit, snapshot)).toStrictEqual(state);
    }),
  );
});

test('the random histories contain every kind of outcome that the properties are about', () => {
  const seen = new Set<string>();
  checkProperty(
    fc.property(steps, (actions) => {
      const { commits } = historyOf([...actions, { do: 'settle', skewMin: 0 }]);
      for (const commit of commits) for (const { type } of commit.events) seen.add(type);
    }),
  );
  for (const type of [
    'ReservationHeld',
    'ReservationConfirmed',
    'ReservationCancelled',
    'ReservationExpired',
    'ReservationMoved',
    'ReservationRejected',
    'ReservationStarted',
    'ReservationCompleted',
    'LockerOpenAnswered',
  ]) {
    expect(seen).toContain(type);
  }
});

import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { blocksLocker, overlaps, periodOf } from '../../../domain/booking/allocation.ts';
import { allReservations, type Reservation } from '../../../domain/booking/reservation.ts';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import { evolveUnit, type FoldableCommit, newUnitState } from '../../../domain/unit/unit.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import { UNIT } from '../../support/given.ts';
import { seededRandom } from '../../support/random.ts';
import { Life, type Step, steps } from './history.ts';

const RUNS = 400;
const { seed } = seededRandom();

function holds(property: fc.IRawProperty<unknown>): void {
  fc.assert(property as fc.IProperty<unknown>, { seed, numRuns: RUNS });
}

function lifeOf(actions: readonly Step[], oneClock = true): Life {
  const life = new Life(oneClock);
  for (const action of actions) life.take(action);
  return life;
}

/** Pairs of reservations that claim one locker at one time. */
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

test('one locker is never reserved for two customers at one time', () => {
  holds(
    fc.property(steps, (actions) => {
      const life = new Life(true);
      for (const action of actions) {
        life.take(action);
        const promised = allReservations(life.state.booking).filter(
          (reservation) => waiting(reservation) && blocksLocker(reservation, life.nowMs),
        );
        expect(clashes(promised)).toEqual([]);
      }
    }),
  );
});

test('one locker is confirmed for one customer at one time, also when the clocks of processes differ', () => {
  holds(
    fc.property(steps, (actions) => {
      const life = new Life(false);
      for (const action of actions) {
        life.take(action);
        const all = allReservations(life.state.booking);
        expect(clashes(all.filter(({ status }) => status === 'confirmed'))).toEqual([]);
      }
    }),
  );
});

test('after settlement no reservation has a locker that the unit rented to another customer', () => {
  holds(
    fc.property(steps, (actions) => {
      const life = lifeOf(actions);
      life.settle();
      const binding = allReservations(life.state.booking).filter((each) => blocksLocker(each, life.nowMs));
      const ahead = clashes(binding).filter((pair) =>
        pair.some((each) => waiting(each) && toMs(each.until) > life.nowMs),
      );
      expect(ahead).toEqual([]);
    }),
  );
});

test('a second settlement decides nothing', () => {
  holds(
    fc.property(steps, (actions) => {
      const life = lifeOf(actions, false);
      life.settle();
      expect(settleBookings(life.state, life.nowMs)).toEqual([]);
    }),
  );
});

test('the state is the same in whatever order subjects are interleaved', () => {
  holds(
    fc.property(steps, fc.infiniteStream(fc.nat({ max: 5 })), (actions, choices) => {
      const { commits, state } = lifeOf(actions, false);
      const folded = interleaved(commits, choices).reduce(evolveUnit, newUnitState(UNIT));
      expect(folded).toEqual(state);
    }),
  );
});

/** The same commits, those of one subject in their order, the subjects mixed otherwise. Registration comes first. */
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
  holds(
    fc.property(steps, (actions) => {
      const { commits, state } = lifeOf(actions, false);
      expect(commits.reduce(evolveUnit, state)).toBe(state);
    }),
  );
});

test('a state restored from its snapshot equals the state and folds the same', () => {
  holds(
    fc.property(steps, fc.nat(), (actions, cut) => {
      const { commits, state } = lifeOf(actions, false);
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
  holds(
    fc.property(steps, (actions) => {
      const { commits } = lifeOf([...actions, { do: 'settle', skewMin: 0 }]);
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

/** Random histories of a unit: commands of customers, reports of the unit, and settlements, in any order. */

import fc from 'fast-check';
import {
  cancelReservation,
  confirmReservation,
  endReservation,
  holdLocker,
  recordOpenAnswer,
  requestLockerOpen,
} from '../../../domain/booking/customer-decisions.ts';
import { findReservation } from '../../../domain/booking/reservation.ts';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import { Refusal } from '../../../domain/refusal.ts';
import { evolveUnit, type FoldableCommit, newUnitState, type UnitState } from '../../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import { commitOf, decisionOf, type Past, UNIT } from '../../support/given.ts';
import { MINUTE_MS, NOW_MS, registered } from '../../support/scene.ts';

const CUSTOMERS = ['ann', 'ben', 'cem'];
const LOCKER_IDS = ['A', 'B', 'C'];
const SERVICE_CHANGES = [
  'return',
  'return',
  'now',
  'when-free',
  'until',
  'maintain',
  'cancel',
  'remove',
  'add',
] as const;
const EPOCHS = ['018f0000-0000-7000-8000-00000000000a', '018f0000-0000-7000-8000-00000000000b'];

/** The index of a reservation among those that were made so far, modulo their number. */
const which = fc.nat({ max: 40 });
const locker = fc.constantFrom(...LOCKER_IDS);
const skewMin = fc.integer({ min: -30, max: 30 });
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('hold' as const),
      customer: fc.constantFrom(...CUSTOMERS),
      wanted: fc.oneof(fc.record({ locker }), fc.record({ size: fc.constantFrom('S' as const, 'M' as const) })),
      inMin: fc.integer({ min: 0, max: 120 }),
      minutes: fc.integer({ min: 15, max: 120 }),
      skewMin,
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('confirm' as const), which, skewMin }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), which, skewMin }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('open' as const), which, skewMin }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('end' as const), which, skewMin }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const), skewMin }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), minutes: fc.integer({ min: 1, max: 90 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('walk-up' as const), locker, minutes: fc.integer({ min: 1, max: 120 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('redeem' as const), which, locker }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('give back' as const), locker, named: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('door' as const), locker, open: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('report' as const),
      epoch: fc.constantFrom(...EPOCHS),
      kept: fc.subarray(LOCKER_IDS),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('service' as const),
      locker,
      change: fc.constantFrom(...SERVICE_CHANGES),
      minutes: fc.integer({ min: 1, max: 120 }),
    }),
  },
);
export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

export const steps = fc.array(step, { maxLength: 60, size: 'max' });

/** Access codes of which the first ones are often equal: that of every third reservation. */
export function accessCodeOf(reservationId: string, draw: number): string {
  return `${Number(reservationId.split('.')[1]) % 3} ${draw}`;
}

/** Performs steps on a unit, and has every commit and the state after all of them. */
export class RandomHistory {
  readonly commits: FoldableCommit[] = [];
  state: UnitState = newUnitState(UNIT);
  nowMs = NOW_MS;
  #made = 0;
  #rentals = 0;
  #epoch: string | undefined;
  readonly #ids: string[] = [];

  /** @param oneClock whether all processes have the same time; otherwise each step has a clock skew */
  constructor(readonly oneClock: boolean) {
    this.#commit(commitOf(this.state, registered));
  }

  perform(action: Step): void {
    this.nowMs += 1_000;
    switch (action.do) {
      case 'pass':
        this.nowMs += action.minutes * MINUTE_MS;
        break;
      case 'hold':
        this.#hold(action);
        break;
      case 'settle':
        this.settle(this.#clock(action.skewMin));
        break;
      case 'confirm':
      case 'cancel':
      case 'open':
      case 'end':
        this.#command(action);
        break;
      case 'service': {
        const draft = serviceDraft(this.state, action, this.nowMs);
        if (draft !== undefined) this.#commit(commitOf(this.state, { ...draft, atMs: this.nowMs }));
        break;
      }
      default:
        this.#report(unitReportOf(this, action));
    }
  }

  settle(nowMs = this.nowMs): void {
    this.#decide('settle', nowMs, (state) => settleBookings(state, nowMs));
  }

  newRentalId(): string {
    this.#rentals += 1;
    return `rental-${this.#rentals}`;
  }

  reservationAt(index: number): string | undefined {
    return this.#ids.length === 0 ? undefined : this.#ids[index % this.#ids.length];
  }

  /** The unit's store was wiped: its later reports have this epoch. */
  enter(epoch: string): void {
    this.#epoch = epoch;
  }

  #clock(skewMin: number): number {
    return this.nowMs + (this.oneClock ? 0 : skewMin * MINUTE_MS);
  }

  #hold({ customer, wanted, inMin, minutes, skewMin }: Extract<Step, { do: 'hold' }>): void {
    const reservationId = `${UNIT}.${this.#ids.length}`;
    const fromMs = this.#clock(skewMin) + inMin * MINUTE_MS;
    const period = { from: toInstant(fromMs), until: toInstant(fromMs + minutes * MINUTE_MS) };
    const nowMs = this.#clock(skewMin);
    this.#ids.push(reservationId);
    this.#decide('hold', nowMs, (state, commandId) =>
      holdLocker(state, { commandId, reservationId, customer, nowMs, requested: wanted, ...period }),
    );
  }

  #command({ do: what, which: index, skewMin }: Extract<Step, { which: number; skewMin: number }>): void {
    const reservationId = this.reservationAt(index);
    const reservation = reservationId === undefined ? undefined : findReservation(this.state.booking, reservationId);
    if (reservationId === undefined || reservation === undefined) return;
    const nowMs = this.#clock(skewMin);
    const { customer } = reservation;
    if (what !== 'open') {
      this.#decide(what, nowMs, (state, commandId) => {
        const command = { commandId, reservationId, customer, nowMs };
        if (what === 'confirm') return confirmReservation(state, { ...command, paymentReference: 'p', accessCodeOf });
        return what === 'cancel' ? cancelReservation(state, command) : endReservation(state, command);
      });
      return;
    }
    const commandId = `open-${this.#made}`;
    this.#decide('ask', nowMs, (state) => requestLockerOpen(state, { commandId, reservationId, customer, nowMs }));
    const requested = findReservation(this.state.booking, reservationId)?.openResults[commandId];
    if (requested === undefined) return;
    const { locker } = findReservation(this.state.booking, reservationId) ?? reservation;
    const answer = index % 2 === 0 ? { result: 'opened' as const } : { result: 'failed' as const, reason: 'jammed' };
    this.#decide('answer', nowMs, (state) =>
      recordOpenAnswer(state, { reservationId, commandId, locker, ...answer, nowMs }),
    );
  }

  #report(report: Past | undefined): void {
    if (report === undefined) return;
    const epoch = this.#epoch === undefined ? {} : { epoch: this.#epoch };
    this.#commit(commitOf(this.state, { atMs: this.nowMs, ...epoch, ...report }));
  }

  #decide(what: string, nowMs: number, decide: (state: UnitState, commandId: string) => EventDraft[]): void {
    this.#made += 1;
    const commandId = `${what}-${this.#made}`;
    try {
      const drafts = decide(this.state, commandId);
      if (drafts.length > 0) this.#commit(decisionOf(this.state, drafts, { commandId, atMs: nowMs }));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
  }

  #commit(commit: FoldableCommit): void {
    // The store has commits as JSON.
    const stored = JSON.parse(JSON.stringify(commit)) as FoldableCommit;
    this.commits.push(stored);
    this.state = evolveUnit(this.state, stored);
  }
}

/** The event that the unit reports for a step. A rental of a reservation ends with the reservation. */
function unitReportOf(
  history: RandomHistory,
  action: Extract<Step, { do: 'walk-up' | 'redeem' | 'give back' | 'door' | 'report' }>,
): Past | undefined {
  const { state, nowMs } = history;
  switch (action.do) {
    case 'walk-up': {
      const until = toInstant(nowMs + action.minutes * MINUTE_MS);
      return { type: 'RentalStarted', locker: action.locker, data: { rentalId: history.newRentalId(), until } };
    }
    case 'redeem': {
      const reservationId = history.reservationAt(action.which);
      const reservation = reservationId === undefined ? undefined : findReservation(state.booking, reservationId);
      if (reservation === undefined) return undefined;
      const until = toInstant(Math.max(toMs(reservation.until), nowMs));
      const data = { rentalId: history.newRentalId(), reservationId: reservation.id, until };
      return { type: 'RentalStarted', locker: action.locker, data };
    }
    case 'give back': {
      const rental = state.device.lockers[action.locker]?.rental;
      if (rental === undefined) return undefined;
      const { rentalId, reservationId } = rental;
      const named = action.named && reservationId !== undefined ? { reservationId } : {};
      return { type: 'RentalEnded', locker: action.locker, data: { rentalId, reason: 'given-back', ...named } };
    }
    case 'door':
      return action.open
        ? { type: 'LockerOpened', locker: action.locker, data: { cause: 'service' } }
        : { type: 'LockerClosed', locker: action.locker, data: {} };
    case 'report': {
      history.enter(action.epoch);
      const lockers = action.kept.map((id) => ({ id, door: 'closed' as const, ...rentalIn(state, id) }));
      return { type: 'UnitStateReported', data: { reason: 'new-epoch', configurationHash: 'c', lockers } };
    }
  }
}

function rentalIn(state: UnitState, id: string) {
  const rental = state.device.lockers[id]?.rental;
  return rental === undefined ? {} : { rental };
}

/** What an operator does with a locker or with the whole unit; `undefined` when there is nothing to do. */
function serviceDraft(
  { registry }: UnitState,
  { change, locker: id, minutes }: Extract<Step, { do: 'service' }>,
  nowMs: number,
): EventDraft | undefined {
  if (registry.status === 'unregistered') return undefined;
  const isPresent = registry.lockers.some((each) => each.id === id);
  const later = toInstant(nowMs + minutes * MINUTE_MS);
  switch (change) {
    case 'return':
      return { type: 'LockerReturnedToService', data: { id } };
    case 'now':
    case 'when-free':
      return { type: 'LockerTakenOutOfService', data: { id, when: change } };
    case 'until':
      return { type: 'LockerTakenOutOfService', data: { id, when: 'now', until: later } };
    case 'maintain': {
      const until = toInstant(nowMs + 2 * minutes * MINUTE_MS);
      return { type: 'UnitMaintenancePlanned', data: { id: later, from: later, until, reason: 'paint' } };
    }
    case 'cancel': {
      const [planned] = registry.maintenance;
      return planned === undefined ? undefined : { type: 'UnitMaintenanceCancelled', data: { id: planned.id } };
    }
    case 'remove':
      return isPresent ? { type: 'LockerRemoved', data: { id } } : undefined;
    case 'add':
      return isPresent ? undefined : { type: 'LockerAdded', data: { id, size: 'S' } };
  }
}

/**
 * Every state of a reservation × every command of its customer, and each command once more with the same id. A cell says
 * which events are decided, or how it is refused.
 */

import { describe, expect, test } from 'bun:test';
import {
  cancelReservation,
  confirmReservation,
  endReservation,
  requestLockerOpen,
} from '../../../domain/booking/customer-decisions.ts';
import { findReservation, type ReservationStatus } from '../../../domain/booking/reservation.ts';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import type { EventType } from '../../../domain/events/catalogue.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import { Refusal, type RefusalKind } from '../../../domain/refusal.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { given, type Past, withDecision } from '../../support/given.ts';
import {
  accessCodeOf,
  at,
  command,
  completed,
  confirmed,
  givenBack,
  held,
  NOW_MS,
  R1,
  registered,
  started,
  taken,
} from '../../support/scene.ts';

const COMMANDS = {
  confirm: (state) => confirmReservation(state, { ...command(), paymentReference: 'pay-1', accessCodeOf }),
  cancel: (state) => cancelReservation(state, command()),
  open: (state) => requestLockerOpen(state, command()),
  end: (state) => endReservation(state, command()),
  settle: (state) => settleBookings(state, NOW_MS),
} satisfies Record<string, (state: UnitState) => EventDraft[]>;
type CommandName = keyof typeof COMMANDS;

const before = { from: at(60), until: at(120) };
const within = { from: at(-60), until: at(60) };
const after = { from: at(-120), until: at(-60) };
const runs = taken('A', { fromMin: -30, untilMin: 60, reservationId: R1 });
const back = givenBack('A', -5, R1);
const cancelled: Past = { type: 'ReservationCancelled', locker: 'A', data: { reservationId: R1 } };
const expired: Past = { type: 'ReservationExpired', locker: 'A', data: { reservationId: R1, reason: 'no-show' } };
const rejected: Past = { type: 'ReservationRejected', locker: 'A', data: { reservationId: R1, reason: 'taken' } };

const STATES = {
  held: [held(within)],
  'held, run out': [held({ ...within, holdExpiresAt: at(0) })],
  'confirmed, before its period': [held(before), confirmed()],
  'confirmed, within its period': [held(within), confirmed()],
  'confirmed, after its period': [held(after), confirmed()],
  'confirmed, long after its period': [held({ from: at(-3_000), until: at(-2_000) }), confirmed()],
  'confirmed, in use says the unit': [held(within), confirmed(), runs],
  'confirmed, given back says the unit': [held(within), confirmed(), runs, back],
  active: [held(within), confirmed(), started()],
  'active, overdue': [held(after), confirmed(), started(R1, 'A', -90)],
  'active, given back says the unit': [held(within), confirmed(), started(), runs, back],
  completed: [held(within), confirmed(), started(), completed(R1, 'A', -1)],
  cancelled: [held(within), confirmed(), cancelled],
  expired: [held(within), expired],
  rejected: [held(within), confirmed(), rejected],
  'cancelled, in use says the unit': [held(within), confirmed(), cancelled, runs],
  'expired, in use says the unit': [held(within), confirmed(), expired, runs],
  'rejected, in use says the unit': [held(within), confirmed(), rejected, runs],
} satisfies Record<string, readonly Past[]>;
type StateName = keyof typeof STATES;

type Cell = readonly EventType[] | readonly [RefusalKind, RegExp];

const NOTHING: Cell = [];
const START: EventType = 'ReservationStarted';
const CONFLICT: EventType = 'ReservationConflictDetected';
const COMPLETE: EventType = 'ReservationCompleted';
const OPEN: EventType = 'LockerOpenRequested';
const CONFIRM: Cell = ['PaymentSucceeded', 'ReservationConfirmed'];
const CANCEL: Cell = ['ReservationCancelled'];
const EXPIRE: Cell = ['ReservationExpired'];
const no = (message: RegExp): Cell => ['reservation-state', message];

const TABLE: Record<StateName, Record<CommandName, Cell>> = {
  held: {
    confirm: CONFIRM,
    cancel: CANCEL,
    open: no(/held. Only a confirmed one/),
    end: no(/held. It is not in use/),
    settle: NOTHING,
  },
  'held, run out': {
    confirm: no(/ran out/),
    cancel: no(/ran out/),
    open: no(/Only a confirmed one/),
    end: no(/not in use/),
    settle: EXPIRE,
  },
  'confirmed, before its period': {
    confirm: no(/confirmed already/),
    cancel: CANCEL,
    open: ['not-yet', /begins at/],
    end: no(/not used yet; cancel/),
    settle: NOTHING,
  },
  'confirmed, within its period': {
    confirm: no(/confirmed already/),
    cancel: CANCEL,
    open: [OPEN],
    end: no(/not used yet; cancel/),
    settle: NOTHING,
  },
  'confirmed, after its period': {
    confirm: no(/confirmed already/),
    cancel: no(/period ended/),
    open: no(/period ended/),
    end: no(/not used/),
    settle: NOTHING,
  },
  'confirmed, long after its period': {
    confirm: no(/confirmed already/),
    cancel: no(/period ended/),
    open: no(/period ended/),
    end: no(/not used/),
    settle: EXPIRE,
  },
  'confirmed, in use says the unit': {
    confirm: no(/confirmed already/),
    cancel: no(/Only an unused one/),
    open: [START, OPEN],
    end: [START, COMPLETE],
    settle: [START],
  },
  'confirmed, given back says the unit': {
    confirm: no(/confirmed already/),
    cancel: no(/Only an unused one/),
    open: no(/given back at/),
    end: [START, COMPLETE],
    settle: [START, COMPLETE],
  },
  active: {
    confirm: no(/active. It cannot be confirmed/),
    cancel: no(/Only an unused one/),
    open: [OPEN],
    end: [COMPLETE],
    settle: NOTHING,
  },
  'active, overdue': {
    confirm: no(/cannot be confirmed/),
    cancel: no(/Only an unused one/),
    open: [OPEN],
    end: [COMPLETE],
    settle: NOTHING,
  },
  'active, given back says the unit': {
    confirm: no(/cannot be confirmed/),
    cancel: no(/Only an unused one/),
    open: no(/given back at/),
    end: [COMPLETE],
    settle: [COMPLETE],
  },
  completed: finished('completed', NOTHING),
  cancelled: finished('cancelled', NOTHING),
  expired: finished('expired', NOTHING),
  rejected: finished('rejected', NOTHING),
  'cancelled, in use says the unit': finished('cancelled', [CONFLICT, START]),
  'expired, in use says the unit': finished('expired', [CONFLICT, START]),
  'rejected, in use says the unit': finished('rejected', [CONFLICT, START]),
};

/** What is over takes no commands; only the unit can know better. */
function finished(status: ReservationStatus, settled: Cell): Record<CommandName, Cell> {
  const over = (why: string) => no(new RegExp(`The reservation is ${status}. ${why}`));
  return {
    confirm: over('It cannot be confirmed'),
    cancel: over(status === 'cancelled' ? 'It is cancelled already' : 'Only an unused one'),
    open: over('Only a confirmed one'),
    end: over('It is not in use'),
    settle: settled,
  };
}

function isRefusal(cell: Cell): cell is readonly [RefusalKind, RegExp] {
  return cell[1] instanceof RegExp;
}

function outcomeOf(run: () => EventDraft[]): EventDraft[] | Refusal {
  try {
    return run();
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
}

function check(outcome: EventDraft[] | Refusal, cell: Cell): void {
  if (!isRefusal(cell)) {
    expect(outcome instanceof Refusal ? outcome.message : outcome.map(({ type }) => type)).toEqual([...cell]);
    return;
  }
  const [kind, message] = cell;
  expect(outcome).toBeInstanceOf(Refusal);
  expect(outcome).toMatchObject({ kind, message: expect.stringMatching(message) });
}

for (const [name, past] of Object.entries(STATES) as [StateName, readonly Past[]][]) {
  describe(name, () => {
    for (const [what, decide] of Object.entries(COMMANDS) as [CommandName, (typeof COMMANDS)[CommandName]][]) {
      const cell = TABLE[name][what];
      const { state } = given(registered, ...past);
      const outcome = outcomeOf(() => decide(state));
      const words = isRefusal(cell) ? `is refused: ${cell[0]}` : `decides ${cell.join(', ') || 'nothing'}`;

      test(`${what} ${words}`, () => check(outcome, cell));

      test(`${what}, repeated, ${isRefusal(cell) ? 'is refused again' : 'decides nothing'}`, () => {
        const drafts = outcome instanceof Refusal ? [] : outcome;
        const next = withDecision(state, drafts, { commandId: command().commandId, atMs: NOW_MS });
        check(
          outcomeOf(() => decide(next)),
          isRefusal(cell) ? cell : NOTHING,
        );
      });
    }
  });
}

test('the table has every state there is', () => {
  const reached = new Set(
    Object.values(STATES).map((past) => findReservation(given(registered, ...past).state.booking, R1)?.status),
  );
  const all: Record<ReservationStatus, true> = {
    held: true,
    confirmed: true,
    active: true,
    completed: true,
    cancelled: true,
    expired: true,
    rejected: true,
  };
  expect([...reached].sort()).toEqual(Object.keys(all).sort() as ReservationStatus[]);
});

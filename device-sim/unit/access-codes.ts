/**
 * A customer types the access code of a reservation at the keypad, instead of showing its QR code.
 *
 *   takes codes ──5 wrong codes within 10 min──▶ locked ──10 min──▶ takes codes
 *
 * The lock belongs to the unit, and survives a reboot. QR codes open lockers all the same.
 */

import { timingSafeEqual } from 'node:crypto';
import type { SyncedReservation } from '../../domain/unit-protocol/reservation-list.ts';
import { toMs } from '../../domain/vocabulary.ts';
import { redeemReservation } from './customer-actions.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  type Keypad,
  type Outcome,
  refusal,
  syncedLocker,
  type UnitModel,
} from './model.ts';

/** Wrong codes within `WRONG_CODE_WINDOW_MS` that lock the keypad. */
export const MAX_WRONG_CODES = 5;
export const WRONG_CODE_WINDOW_MS = 10 * 60_000;
export const KEYPAD_LOCK_MS = 10 * 60_000;

/** The code of the hardware error that stands for a locked keypad. */
const KEYPAD_LOCKED = 'keypad-locked';
const ACCESS_CODE = /^\d{6}$/;

/**
 * Opens the locker of the reservation with the code, as its QR code would. Only a reservation that can be used now counts, so that the
 * answer does not tell whether a wrong code is that of another time.
 */
export function typeAccessCode(
  unit: UnitModel,
  code: string,
  context: DecisionContext,
): Decision<Outcome<{ locker: string; reservationId: string; rentalId: string; until: string }>> {
  const { nowMs } = context;
  if (!ACCESS_CODE.test(code)) return refusal(unit, 'malformed-code', 'An access code has exactly six digits.');
  const keypad = withoutFuture(unit.keypad, nowMs);
  if (keypad.lockedAtMs !== undefined && nowMs - keypad.lockedAtMs < KEYPAD_LOCK_MS)
    return refusal(
      withKeypad(unit, keypad),
      'keypad-locked',
      'The keypad is locked after several wrong codes. Show the QR code.',
    );
  const unlocked = unlock(withKeypad(unit, keypad), context);
  const [reservation, ...others] = usableReservations(unlocked.unit, code, nowMs);
  const decision =
    reservation === undefined
      ? refuseWrongCode(unlocked.unit, context)
      : others.length > 0
        ? refusal(unlocked.unit, 'ambiguous-code', 'Several reservations have this code now. Show the QR code.')
        : redeemReservation(unlocked.unit, claimsOf(unit, reservation), context);
  return { ...decision, entries: [...unlocked.entries, ...decision.entries] };
}

/** The keypad on a clock that may have been set back: nothing happened later than now, so that no lock lasts for longer. */
function withoutFuture(keypad: Keypad, nowMs: number): Keypad {
  const { wrongAtMs, lockedAtMs } = keypad;
  const isLockLater = lockedAtMs !== undefined && lockedAtMs > nowMs;
  if (!isLockLater && !wrongAtMs.some((atMs) => atMs > nowMs)) return keypad;
  return {
    wrongAtMs: wrongAtMs.map((atMs) => Math.min(atMs, nowMs)),
    ...(lockedAtMs === undefined ? {} : { lockedAtMs: Math.min(lockedAtMs, nowMs) }),
  };
}

/** Ends a lock whose time is over. */
function unlock(unit: UnitModel, context: DecisionContext): Decision<null> {
  if (unit.keypad.lockedAtMs === undefined) return { unit, entries: [], answer: null };
  const cleared: EntryDraft = { type: 'HardwareErrorCleared', data: { code: KEYPAD_LOCKED } };
  return decisionWith(withKeypad(unit, { wrongAtMs: [] }), context, [cleared], null);
}

function refuseWrongCode(unit: UnitModel, context: DecisionContext): Decision<Outcome<never>> {
  const { nowMs } = context;
  const recent = unit.keypad.wrongAtMs.filter((atMs) => nowMs - atMs < WRONG_CODE_WINDOW_MS);
  const wrongAtMs = [...recent, nowMs];
  const answer = {
    done: false,
    reason: 'wrong-code',
    detail: 'No reservation can be used with this code now.',
  } as const;
  if (wrongAtMs.length < MAX_WRONG_CODES) return decisionWith(withKeypad(unit, { wrongAtMs }), context, [], answer);
  const raised: EntryDraft = {
    type: 'HardwareErrorRaised',
    data: { code: KEYPAD_LOCKED, message: `The keypad is locked after ${MAX_WRONG_CODES} wrong access codes.` },
  };
  return decisionWith(withKeypad(unit, { wrongAtMs: [], lockedAtMs: nowMs }), context, [raised], answer);
}

/** The reservations of the list with the code whose period contains now, or whose rental runs. */
function usableReservations(unit: UnitModel, code: string, nowMs: number): SyncedReservation[] {
  const typed = Buffer.from(code);
  // Every code is compared, each in constant time, so that the time of the answer does not tell how much of a code is right.
  const listed = Object.values(unit.synced.lockers).flatMap(({ reservations }) => reservations);
  const matching = listed.filter(({ accessCode }) => timingSafeEqual(Buffer.from(accessCode), typed));
  return matching.filter(({ reservationId, from, until }) => {
    if (unit.lockers.some(({ rental }) => rental?.reservationId === reservationId)) return true;
    return !Object.hasOwn(unit.usedReservations, reservationId) && toMs(from) <= nowMs && nowMs < toMs(until);
  });
}

/** What the QR code of a reservation in the list would say. */
function claimsOf(unit: UnitModel, { reservationId, locker, from, until }: SyncedReservation) {
  return { aud: unit.name, sub: reservationId, locker, from, until, asOf: syncedLocker(unit, locker)?.bookings ?? 0 };
}

function withKeypad(unit: UnitModel, keypad: Keypad): UnitModel {
  return keypad === unit.keypad ? unit : { ...unit, keypad };
}

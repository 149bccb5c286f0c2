/** Random actions on a unit model. */

import fc from 'fast-check';
import { executeCommand } from '../../device-sim/unit/commands.ts';
import {
  closeDoor,
  giveBackLocker,
  openLocker,
  redeemReservation,
  rentAtScreen,
} from '../../device-sim/unit/customer-actions.ts';
import { rebootUnit, wipeUnit } from '../../device-sim/unit/lifecycle.ts';
import type { Decision, DecisionContext, UnitModel } from '../../device-sim/unit/model.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { listPage, noonPlus } from './device-unit.ts';

const factory = defaultConfiguration(600);
const LOCKERS = ['A', 'B', 'C'] as const;
const RESERVATIONS = ['PL-1000.r1', 'PL-1000.r2'] as const;
/** An action of a customer or the platform, a reboot or a wipe. */
export const unitAction = fc.record({
  what: fc.constantFrom('walk-up', 'open', 'close', 'give-back', 'redeem', 'command', 'sync', 'reboot', 'wipe'),
  locker: fc.constantFrom(...LOCKERS),
  reservation: fc.constantFrom(...RESERVATIONS),
  listed: fc.subarray([...RESERVATIONS]),
  jammed: fc.subarray([...LOCKERS]),
  declines: fc.boolean(),
});
type UnitAction = typeof unitAction extends fc.Arbitrary<infer T> ? T : never;

/** @param version the version of a synced list, and part of the command's id. It increases with each action */
export function performAction(
  unit: UnitModel,
  action: UnitAction,
  at: DecisionContext,
  version: number,
): Decision<unknown> {
  const { locker, reservation, listed } = action;
  const period = { from: noonPlus(-60), until: noonPlus(600) };
  const command = { commandId: `command-${version}`, expiresAt: noonPlus(600) };
  switch (action.what) {
    case 'walk-up':
      return rentAtScreen(unit, { locker, minutes: 60 }, at);
    case 'open':
      return openLocker(unit, locker, at);
    case 'close':
      return closeDoor(unit, locker, at);
    case 'give-back':
      return giveBackLocker(unit, locker, at);
    case 'redeem':
      return redeemReservation(unit, { aud: 'PL-1000', sub: reservation, locker, ...period, asOf: version }, at);
    case 'command':
      return executeCommand(
        unit,
        { ...command, openLocker: { locker, reservationId: reservation, until: period.until } },
        at,
      );
    case 'sync': {
      const reservations = listed.map((reservationId) => ({
        reservationId,
        locker,
        size: 'M' as const,
        ...period,
        accessCode: '000000',
      }));
      return executeCommand(unit, { ...command, syncReservations: listPage(version, reservations) }, at);
    }
    case 'reboot':
      return rebootUnit(unit, at);
    default:
      return wipeUnit(unit, factory, at);
  }
}

/** An entry as the platform stores it. */
export function asStored({ seq, v, type, time, locker, data }: BatchEvent): CloudEvent {
  return {
    specversion: '1.0',
    id: `PL-1000/epoch/${seq}`,
    source: '/lockfleet/units/PL-1000',
    type,
    subject: locker === undefined ? 'PL-1000' : `PL-1000/${locker}`,
    time,
    dataschema: `${type}/${v}`,
    data,
  };
}

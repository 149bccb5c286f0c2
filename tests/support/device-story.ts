/** Stories that a pure unit may live through, drawn by chance. */

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
import type { Command } from '../../domain/unit-protocol/commands.ts';
import { noonPlus } from './device-unit.ts';

const factory = defaultConfiguration(600);
const LOCKERS = ['A', 'B', 'C'] as const;
const RESERVATIONS = ['PL-1000.r1', 'PL-1000.r2'] as const;
/** What may happen at a unit. */
export const happening = fc.record({
  what: fc.constantFrom('walk-up', 'open', 'close', 'give-back', 'redeem', 'command', 'sync', 'reboot', 'wipe'),
  locker: fc.constantFrom(...LOCKERS),
  reservation: fc.constantFrom(...RESERVATIONS),
  listed: fc.subarray([...RESERVATIONS]),
  jammed: fc.subarray([...LOCKERS]),
  declines: fc.boolean(),
});
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

/** `version`: another one for each happening of a story, counting up. */
export function take(unit: UnitModel, happened: Happening, at: DecisionContext, version: number): Decision<unknown> {
  const { locker, reservation, listed } = happened;
  const period = { from: noonPlus(-60), until: noonPlus(600) };
  const command = { commandId: `command-${version}`, expiresAt: noonPlus(600) };
  const signed = (order: Command) => ({ command: order, issuedAtMs: at.nowMs });
  switch (happened.what) {
    case 'walk-up':
      return rentAtScreen(unit, { locker, minutes: 60 }, at);
    case 'open':
      return openLocker(unit, locker, at);
    case 'close':
      return closeDoor(unit, locker, at);
    case 'give-back':
      return giveBackLocker(unit, locker, at);
    case 'redeem':
      return redeemReservation(unit, { aud: 'PL-1000', sub: reservation, locker, ...period }, at);
    case 'command':
      return executeCommand(
        unit,
        signed({ ...command, openLocker: { locker, reservationId: reservation, until: period.until } }),
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
      return executeCommand(unit, signed({ ...command, syncReservations: { version, reservations } }), at);
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

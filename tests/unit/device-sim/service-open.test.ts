import { describe, expect, test } from 'bun:test';
import { executeCommand } from '../../../device-sim/unit/commands.ts';
import { closeDoor, rentAtScreen } from '../../../device-sim/unit/customer-actions.ts';
import type { DecisionContext, UnitModel } from '../../../device-sim/unit/model.ts';
import type { Command } from '../../../domain/unit-protocol/commands.ts';
import { after, around, entryContent, newUnit, noonPlus } from '../../support/device-unit.ts';

type OpenLocker = Extract<Command, { openLocker: unknown }>['openLocker'];

function open(unit: UnitModel, openLocker: OpenLocker, context: DecisionContext = around()) {
  const command = { commandId: `open-${openLocker.locker}`, expiresAt: noonPlus(1), openLocker };
  return executeCommand(unit, command, context);
}

const rent = (unit: UnitModel) => rentAtScreen(unit, { locker: 'B', minutes: 60 }, around());
const openForCustomer = (unit: UnitModel) =>
  executeCommand(
    unit,
    {
      commandId: 'customer',
      expiresAt: noonPlus(1),
      openLocker: { locker: 'B', reservationId: 'PL-1000.11111111-1111-7111-8111-111111111111', until: noonPlus(60) },
    },
    around(),
  );
const shut = (unit: UnitModel) => closeDoor(unit, 'B', around());
const lockerB = ({ lockers }: UnitModel) => lockers.find(({ id }) => id === 'B');

describe('opening a locker for service', () => {
  test.each([
    ['that is free', []],
    ['that a customer rents at the screen', [rent, shut]],
    ['of a reservation', [openForCustomer, shut]],
  ] as const)('opens one %s, and rentals stay as they are', (_, before) => {
    const unit = after(newUnit(), ...before);
    const { unit: opened, entries, answer } = open(unit, { locker: 'B', service: true });
    expect(answer).toEqual({ commandId: 'open-B', status: 'done' });
    expect(entries.map(entryContent)).toEqual([
      { type: 'LockerOpened', locker: 'B', causationId: 'open-B', data: { cause: 'service', commandId: 'open-B' } },
    ]);
    expect(lockerB(opened)).toEqual({ ...lockerB(unit), door: 'open' } as ReturnType<typeof lockerB>);
  });

  test('does not open a jammed door or a locker that the unit does not have', () => {
    const jammed = around({ jammedLockers: new Set(['B']) });
    expect(open(newUnit(), { locker: 'B', service: true }, jammed).answer).toMatchObject({
      status: 'failed',
      reason: 'jammed',
    });
    expect(open(newUnit(), { locker: 'ZZ', service: true }).answer).toMatchObject({
      status: 'refused',
      reason: 'unknown-locker',
    });
  });

  test('a command without a reservation that is not for service does not open a rented locker', () => {
    const answer = open(after(newUnit(), rent, shut), { locker: 'B' }).answer;
    expect(answer).toMatchObject({ status: 'failed', reason: 'occupied' });
  });
});

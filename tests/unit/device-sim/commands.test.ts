import { describe, expect, test } from 'bun:test';
import {
  ANSWERED_RETENTION_MS,
  executeCommand as execute,
  MAX_ANSWERED_COMMANDS,
} from '../../../device-sim/unit/commands.ts';
import { closeDoor, giveBackLocker, rentAtScreen } from '../../../device-sim/unit/customer-actions.ts';
import type { UnitModel } from '../../../device-sim/unit/model.ts';
import { configurationHash } from '../../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import type { Command } from '../../../domain/unit-protocol/commands.ts';
import type { SyncedReservation } from '../../../domain/unit-protocol/reservation-list.ts';
import {
  after,
  around,
  countingIds,
  entryContent,
  listPage,
  MINUTE_MS,
  NOON_MS,
  newUnit,
  noonPlus,
} from '../../support/device-unit.ts';

const R1 = 'PL-1000.11111111-1111-7111-8111-111111111111';
const R2 = 'PL-1000.22222222-2222-7222-8222-222222222222';
const nextCommandId = countingIds();

type Order = Parameters<typeof orderOf>[0];
function orderOf(
  order:
    | Omit<Extract<Command, { openLocker: unknown }>, 'commandId' | 'expiresAt'>
    | Omit<Extract<Command, { applyConfiguration: unknown }>, 'commandId' | 'expiresAt'>
    | Omit<Extract<Command, { syncReservations: unknown }>, 'commandId' | 'expiresAt'>,
  commandId = nextCommandId(),
): Command {
  return { commandId, expiresAt: noonPlus(1), ...order };
}

const openB = { openLocker: { locker: 'B', reservationId: R1, until: noonPlus(60) } };
const does = (order: Order) => (unit: UnitModel) => execute(unit, orderOf(order), around());
const rent = (locker: string) => (unit: UnitModel) => rentAtScreen(unit, { locker, minutes: 60 }, around());
const shut = (locker: string) => (unit: UnitModel) => closeDoor(unit, locker, around());
const giveUp = (locker: string) => (unit: UnitModel) => giveBackLocker(unit, locker, around());

function reservation(changes: Partial<SyncedReservation> = {}): SyncedReservation {
  return {
    reservationId: R1,
    locker: 'B',
    size: 'M',
    from: noonPlus(0),
    until: noonPlus(90),
    accessCode: '123456',
    ...changes,
  };
}
const syncOf = (version: number, ...reservations: SyncedReservation[]) => ({
  syncReservations: listPage(version, reservations),
});

describe('openLocker', () => {
  test('opens the door, and the first opening for a reservation starts its rental', () => {
    const { unit, entries, answer } = execute(newUnit(), orderOf(openB, 'command-1'), around());
    expect(answer).toEqual({ commandId: 'command-1', status: 'done' });
    expect(entries.map(entryContent)).toEqual([
      {
        type: 'RentalStarted',
        locker: 'B',
        causationId: 'command-1',
        data: { rentalId: 'id-1', reservationId: R1, until: noonPlus(60) },
      },
      {
        type: 'LockerOpened',
        locker: 'B',
        causationId: 'command-1',
        data: { cause: 'command', commandId: 'command-1' },
      },
    ]);
    expect(unit.lockers[1]).toMatchObject({ door: 'open', rental: { reservationId: R1 } });
  });

  const table: {
    name: string;
    unit: UnitModel;
    order?: Order;
    jammed?: string;
    types: string[];
    status: string;
    reason?: string;
  }[] = [
    {
      name: 'already rented by this reservation: opens only the door',
      unit: after(newUnit(), does(openB), shut('B')),
      types: ['LockerOpened'],
      status: 'done',
    },
    {
      name: 'without a reservation: opens only the door',
      unit: newUnit(),
      order: { openLocker: { locker: 'B' } },
      types: ['LockerOpened'],
      status: 'done',
    },
    {
      name: 'with the period that was synced',
      unit: after(newUnit(), does(syncOf(1, reservation()))),
      order: { openLocker: { locker: 'B', reservationId: R1 } },
      types: ['RentalStarted', 'LockerOpened'],
      status: 'done',
    },
    {
      name: 'rented by a walk-up',
      unit: after(newUnit(), rent('B'), shut('B')),
      types: [],
      status: 'failed',
      reason: 'occupied',
    },
    {
      name: 'rented by a walk-up, and no reservation named',
      unit: after(newUnit(), rent('B'), shut('B')),
      order: { openLocker: { locker: 'B' } },
      types: [],
      status: 'failed',
      reason: 'occupied',
    },
    {
      name: 'rented with another reservation',
      unit: after(newUnit(), does({ openLocker: { locker: 'B', reservationId: R2, until: noonPlus(60) } })),
      types: [],
      status: 'failed',
      reason: 'occupied',
    },
    {
      name: 'given back before',
      unit: after(newUnit(), does(openB), shut('B'), giveUp('B')),
      types: [],
      status: 'failed',
      reason: 'given-back',
    },
    {
      name: 'another locker than the one the reservation rents',
      unit: after(newUnit(), does(openB)),
      order: { openLocker: { locker: 'C', reservationId: R1, until: noonPlus(60) } },
      types: [],
      status: 'failed',
      reason: 'rents-another-locker',
    },
    { name: 'jammed', unit: newUnit(), jammed: 'B', types: ['LockerOpenFailed'], status: 'failed', reason: 'jammed' },
    {
      name: 'an unknown locker',
      unit: newUnit(),
      order: { openLocker: { locker: 'Z' } },
      types: [],
      status: 'refused',
      reason: 'unknown-locker',
    },
    {
      name: 'a reservation without a known period',
      unit: newUnit(),
      order: { openLocker: { locker: 'B', reservationId: R1 } },
      types: [],
      status: 'refused',
      reason: 'until-missing',
    },
  ];
  for (const { name, unit, order = openB, jammed, types, status, reason } of table) {
    test(name, () => {
      const decision = execute(
        unit,
        orderOf(order, 'c'),
        around({ jammedLockers: new Set(jammed === undefined ? [] : [jammed]) }),
      );
      expect(decision.entries.map(({ type }) => type)).toEqual(types);
      expect(decision.answer).toEqual({ commandId: 'c', status, ...(reason === undefined ? {} : { reason }) } as never);
      for (const entry of decision.entries) expect(entry.causationId).toBe('c');
    });
  }
});

describe('a command', () => {
  test('is executed once, and a repeat gets the same answer for as long as the command is valid', () => {
    const command = orderOf(openB, 'once');
    const first = execute(newUnit(), command, around());
    const closed = closeDoor(first.unit, 'B', around()).unit;
    const second = execute(closed, command, around({ nowMs: NOON_MS + 9 * MINUTE_MS }));
    expect(second).toEqual({ unit: closed, entries: [], answer: first.answer });
  });

  test('that failed is not executed again when it is repeated', () => {
    const command = orderOf(openB, 'jam');
    const jammed = execute(newUnit(), command, around({ jammedLockers: new Set(['B']) }));
    expect(execute(jammed.unit, command, around()).answer).toEqual({
      commandId: 'jam',
      status: 'failed',
      reason: 'jammed',
    });
  });

  test('is refused after expiresAt by the clock of the unit, also when it is repeated', () => {
    const command = orderOf(openB, 'late');
    const late = execute(newUnit(), command, around({ nowMs: NOON_MS + MINUTE_MS + 1 }));
    expect(late.answer).toEqual({ commandId: 'late', status: 'refused', reason: 'expired' });
    expect(late.entries).toEqual([]);
    expect(execute(late.unit, command, around()).answer).toEqual(late.answer);
  });

  test('is refused when expiresAt is not a time', () => {
    const command = { ...orderOf(openB, 'never'), expiresAt: '2026-99-99T00:00:00Z' };
    expect(execute(newUnit(), command, around()).answer).toEqual({
      commandId: 'never',
      status: 'refused',
      reason: 'expired',
    });
  });

  test('may have an id that is also a property of every object', () => {
    expect(execute(newUnit(), orderOf(openB, 'constructor'), around()).answer).toEqual({
      commandId: 'constructor',
      status: 'done',
    });
    const proto = execute(newUnit(), orderOf(openB, '__proto__'), around());
    expect(execute(proto.unit, orderOf(openB, '__proto__'), around()).entries).toEqual([]);
  });

  test('is forgotten once no copy of it can be valid', () => {
    const unit = after(newUnit(), does(openB));
    const then = around({ nowMs: NOON_MS + MINUTE_MS + ANSWERED_RETENTION_MS });
    const next = execute(unit, { ...orderOf(openB, 'next'), expiresAt: noonPlus(600) }, then);
    expect(Object.keys(next.unit.answeredCommands)).toEqual(['next']);
  });

  test('is refused when the memory for commands is full', () => {
    const answered = Object.fromEntries(
      Array.from({ length: MAX_ANSWERED_COMMANDS }, (_, index) => [
        `c${index}`,
        { answer: { commandId: `c${index}`, status: 'done' as const }, forgetAtMs: NOON_MS + MINUTE_MS },
      ]),
    );
    const full = { ...newUnit(), answeredCommands: answered };
    expect(execute(full, orderOf(openB, 'more'), around())).toEqual({
      unit: full,
      entries: [],
      answer: { commandId: 'more', status: 'refused', reason: 'too-many-commands' },
    });
    expect(execute(full, orderOf(openB, 'more'), around({ nowMs: NOON_MS + MINUTE_MS })).answer.status).toBe('done');
  });
});

describe('applyConfiguration', () => {
  const values = { ...defaultConfiguration(600).values, minimumMinutes: 30 };
  const wanted = { version: 2, hash: configurationHash(values), values };

  test('applies the new values and answers with their hash', () => {
    const { unit, entries, answer } = execute(newUnit(), orderOf({ applyConfiguration: wanted }, 'c'), around());
    expect(answer).toEqual({ commandId: 'c', status: 'done', configurationHash: wanted.hash });
    expect(entries).toEqual([]);
    expect(unit.configuration).toEqual(wanted);
    expect(rentAtScreen(unit, { minutes: 20 }, around()).answer).toMatchObject({ done: false, reason: 'period' });
  });

  const inverted = { ...values, minimumMinutes: 90, maximumMinutes: 60 };
  const bad = [
    { reason: 'hash', configuration: { ...wanted, hash: '0'.repeat(64) } },
    { reason: 'older-version', configuration: { ...wanted, version: 1 }, running: 2 },
    {
      reason: 'minimum-above-maximum',
      configuration: { version: 2, hash: configurationHash(inverted), values: inverted },
    },
  ];
  for (const { reason, configuration, running } of bad) {
    test(`refuses: ${reason}`, () => {
      const fresh = newUnit();
      const unit =
        running === undefined ? fresh : { ...fresh, configuration: { ...fresh.configuration, version: running } };
      const decision = execute(unit, orderOf({ applyConfiguration: configuration }, 'c'), around());
      expect(decision.answer).toEqual({
        commandId: 'c',
        status: 'refused',
        reason,
        configurationHash: unit.configuration.hash,
      });
      expect(decision.unit.configuration).toBe(unit.configuration);
    });
  }

  test('refuses inconsistent values, and names the first problem', () => {
    const twice = { ...values, openingHours: [{ weekday: 1, opens: '20:00', closes: '08:00' }] };
    const configuration = { version: 2, hash: configurationHash(twice), values: twice };
    const decision = execute(newUnit(), orderOf({ applyConfiguration: configuration }, 'c'), around());
    expect(decision.answer).toMatchObject({ status: 'refused' });
    expect(decision.answer.reason).toStartWith('invalid: /openingHours/0/closes');
  });

  test.each([
    ['refuses', 'refused', 'not-supported'],
    ['fails', 'failed', 'cannot-apply'],
    ['other-hash', 'done', undefined],
  ] as const)('with the fault %s, answers %s and keeps its configuration', (applying, status, reason) => {
    const unit = newUnit();
    const decision = execute(
      unit,
      orderOf({ applyConfiguration: wanted }, 'c'),
      around({ configurationFault: applying }),
    );
    expect(decision.answer).toEqual({
      commandId: 'c',
      status,
      ...(reason === undefined ? {} : { reason }),
      configurationHash: unit.configuration.hash,
    });
    expect(decision.unit.configuration).toBe(unit.configuration);
  });
});

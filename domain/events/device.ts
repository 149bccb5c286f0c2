import { Type } from '@sinclair/typebox';
import { Identifier, Instant, LockerId, MAX_LOCKERS_PER_UNIT, Money, Text } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

export const OpenCause = Type.Union([
  Type.Literal('walk-up'),
  Type.Literal('reservation'),
  Type.Literal('command'),
  Type.Literal('service'),
]);
export const DoorState = Type.Union([Type.Literal('open'), Type.Literal('closed'), Type.Literal('unknown')]);

const commandId = Type.Optional(Identifier);
const RentalRef = {
  rentalId: Identifier,
  reservationId: Type.Optional(Identifier),
};

/**
 * The events that a unit reports. The subject of the event (`UNIT/LOCKER`) and the field `locker` of a batch name the locker; `data` does
 * not. Fields that the platform does not know are kept.
 */
export const deviceEvents = {
  LockerOpened: defineEvent('device', 'A door opened.', Type.Object({ cause: OpenCause, commandId })),
  LockerClosed: defineEvent('device', 'A door closed.', Type.Object({})),
  LockerOpenFailed: defineEvent('device', 'A door did not open.', Type.Object({ reason: Text, commandId })),
  RentalStarted: defineEvent(
    'device',
    'A locker was taken, at the screen or with a reservation.',
    Type.Object({ ...RentalRef, until: Instant, price: Type.Optional(Money) }),
  ),
  RentalEnded: defineEvent(
    'device',
    'A locker was given back.',
    Type.Object({ ...RentalRef, reason: Type.Union([Type.Literal('given-back'), Type.Literal('released')]) }),
  ),
  ReservationRedeemed: defineEvent(
    'device',
    'A customer showed the token of a reservation at the screen.',
    Type.Object({ reservationId: Identifier }),
  ),
  HardwareErrorRaised: defineEvent(
    'device',
    'A part reports an error.',
    Type.Object({ code: Identifier, message: Text }),
  ),
  HardwareErrorCleared: defineEvent('device', 'A part works again.', Type.Object({ code: Identifier })),
  UnitRestarted: defineEvent('device', 'The unit booted.', Type.Object({ bootId: Identifier })),
  UnitStateReported: defineEvent(
    'device',
    'The state of every locker, at the start of an epoch or after a gap that cannot be closed.',
    Type.Object({
      reason: Type.Union([Type.Literal('new-epoch'), Type.Literal('gap')]),
      configurationHash: Identifier,
      lockers: Type.Array(
        Type.Object({
          id: LockerId,
          door: DoorState,
          rental: Type.Optional(Type.Object({ ...RentalRef, startedAt: Instant, until: Instant })),
        }),
        { maxItems: MAX_LOCKERS_PER_UNIT },
      ),
    }),
  ),
  UnitEventRejected: defineEvent(
    'device',
    'Stands in the place of an event that could not be accepted.',
    Type.Object({ reason: Text, rejectedType: Type.Optional(Type.String({ maxLength: 100 })) }),
  ),
};

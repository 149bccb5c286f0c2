/** The registration of a unit: its properties, its lockers and its credentials. */

import type { EventOf, KnownEvent } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import { Refusal } from '../refusal.ts';
import type { LockerSize } from '../vocabulary.ts';

export interface RegisteredLocker {
  readonly id: string;
  readonly size: LockerSize;
  readonly inService: boolean;
}

type Registration = EventOf<'UnitRegistered'>;

/** Bound on the rotations of a unit's credentials: each leaves a former user in the state and in the list of revocations. */
export const MAX_ROTATIONS_PER_UNIT = 1_000;

export type RegistryState =
  | { readonly status: 'unregistered' }
  | (Omit<Registration, 'lockers' | 'configuration'> & {
      readonly status: 'registered' | 'retired';
      readonly credentialsRevoked: boolean;
      /** The former NATS users of the unit, oldest first. */
      readonly formerNatsUsers: readonly string[];
      /** Id of the command that registered the unit. */
      readonly registrationCommandId: string;
      /** Id of the command that issued the present credentials. */
      readonly credentialsCommandId: string;
      readonly lockers: readonly RegisteredLocker[];
    });
export type RegisteredUnit = Exclude<RegistryState, { status: 'unregistered' }>;

export const NOT_REGISTERED: RegistryState = { status: 'unregistered' };

export function evolveRegistry(state: RegistryState, event: KnownEvent): RegistryState {
  if (event.type === 'UnitRegistered') {
    const { configuration: _, ...registration } = event.data;
    return {
      ...registration,
      lockers: event.data.lockers.map((locker) => ({ ...locker, inService: true })),
      status: 'registered',
      credentialsRevoked: false,
      formerNatsUsers: [],
      registrationCommandId: event.causationid ?? '',
      credentialsCommandId: event.causationid ?? '',
    };
  }
  if (state.status === 'unregistered') return state;
  switch (event.type) {
    case 'UnitUpdated':
      return { ...state, ...event.data };
    case 'UnitCredentialsRotated':
      return {
        ...state,
        ...event.data,
        credentialsRevoked: false,
        formerNatsUsers: [...state.formerNatsUsers, state.natsUser],
        credentialsCommandId: event.causationid ?? '',
      };
    case 'UnitCredentialsRevoked':
      return { ...state, credentialsRevoked: true };
    case 'LockerAdded':
      return { ...state, lockers: [...state.lockers, { ...event.data, inService: true }] };
    case 'LockerTakenOutOfService':
      return { ...state, lockers: withService(state.lockers, event.data.id, false) };
    case 'LockerReturnedToService':
      return { ...state, lockers: withService(state.lockers, event.data.id, true) };
    case 'UnitRetired':
      return { ...state, status: 'retired' };
    default:
      return state;
  }
}

function withService(lockers: readonly RegisteredLocker[], id: string, inService: boolean): RegisteredLocker[] {
  return lockers.map((locker) => (locker.id === id ? { ...locker, inService } : locker));
}

/**
 * Registers a unit. The name of a retired unit cannot be registered again, because its log would count as the log of the new unit.
 */
export function registerUnit(state: RegistryState, registration: Registration, commandId: string): EventDraft[] {
  if (state.status !== 'unregistered') {
    if (state.registrationCommandId === commandId) return [];
    throw new Refusal('validation', `A unit named ${registration.name} exists already.`, [
      { path: '/name', message: 'is taken' },
    ]);
  }
  const seen = new Set<string>();
  registration.lockers.forEach((locker, index) => {
    if (seen.has(locker.id)) {
      throw new Refusal('validation', 'Two lockers have the same id.', [
        { path: `/lockers/${index}/id`, message: `${locker.id} stands twice` },
      ]);
    }
    seen.add(locker.id);
  });
  return [{ type: 'UnitRegistered', data: registration }];
}

/** Issues new credentials for a unit, also for one whose credentials are revoked. The former credentials end. */
export function rotateCredentials(
  state: RegistryState,
  natsUser: string,
  commandId: string,
): Extract<EventDraft, { type: 'UnitCredentialsRotated' }>[] {
  const { keyVersion, credentialsCommandId: issuedBy, formerNatsUsers } = requireUnit(state);
  if (issuedBy === commandId) return [];
  if (formerNatsUsers.length >= MAX_ROTATIONS_PER_UNIT) {
    throw new Refusal('validation', `The credentials of a unit can be rotated ${MAX_ROTATIONS_PER_UNIT} times.`);
  }
  return [{ type: 'UnitCredentialsRotated', data: { keyVersion: keyVersion + 1, natsUser } }];
}

/** Revokes the credentials of a unit until a rotation. */
export function revokeCredentials(state: RegistryState, reason: string | undefined): EventDraft[] {
  if (requireUnit(state).credentialsRevoked) return [];
  return [{ type: 'UnitCredentialsRevoked', data: reason === undefined ? {} : { reason } }];
}

/** The NATS users of a unit whose credentials have ended. */
export function revokedNatsUsers(state: RegistryState): readonly string[] {
  if (state.status === 'unregistered') return [];
  const ended = state.credentialsRevoked || state.status === 'retired';
  return ended ? [...state.formerNatsUsers, state.natsUser] : state.formerNatsUsers;
}

/** The unit, if it takes bookings. @throws Refusal `not-found`; `closed` while its credentials are revoked */
export function requireBookableUnit(state: RegistryState): RegisteredUnit {
  const unit = requireUnit(state);
  if (unit.credentialsRevoked)
    throw new Refusal(
      'closed',
      'This unit takes no bookings: its credentials are revoked, so the platform cannot reach it.',
    );
  return unit;
}

/** The unit. @throws Refusal `not-found` when it is not registered, or retired */
export function requireUnit(state: RegistryState): RegisteredUnit {
  if (state.status === 'unregistered') throw new Refusal('not-found', 'There is no such unit.');
  if (state.status === 'retired') throw new Refusal('not-found', 'This unit has left the platform.');
  return state;
}

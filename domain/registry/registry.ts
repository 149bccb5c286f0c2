/** The registration of a unit: its properties, its lockers and its credentials. */

import type { EventOf, KnownEvent } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import { Refusal } from '../refusal.ts';
import { type LockerSize, toMs } from '../vocabulary.ts';

export interface RegisteredLocker {
  readonly id: string;
  readonly size: LockerSize;
  /** Set from the decision of an operator until the return to service, also when `until` has passed. */
  readonly outOfService?: OutOfService;
}

export interface OutOfService {
  readonly reason?: string;
  /** Whether bookings of the locker end now, or stay. */
  readonly when: 'now' | 'when-free';
  /** RFC 3339. */
  readonly since: string;
  /** When the locker is for rent again, RFC 3339; without it, an operator decides. */
  readonly until?: string;
}

/** A planned period in which no locker of the unit is for rent. */
export interface Maintenance {
  readonly id: string;
  readonly from: string;
  readonly until: string;
  readonly reason: string;
}

type Registration = EventOf<'UnitRegistered'>;
type OpenResult = EventOf<'ServiceOpenAnswered'>['result'];

const FIRST_KEY_VERSION = 1;
/** Bound on the rotations of a unit's credentials: each leaves a former user in the state and in the list of revocations. */
export const MAX_ROTATIONS_PER_UNIT = 1_000;
/** Commands on a unit that its state keeps, so that a repeated command changes nothing. */
const MAX_REMEMBERED_COMMANDS = 16;
/** Openings by operators that the state keeps with their results. */
const MAX_REMEMBERED_OPENINGS = 16;

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
      /** Grows with every change of the unit's properties; `If-Match` compares it. */
      readonly revision: number;
      /** Ids of the last commands, oldest first. */
      readonly commandIds: readonly string[];
      readonly lockers: readonly RegisteredLocker[];
      /** Planned maintenance that was not over when the last one was planned, in the order of planning. */
      readonly maintenance: readonly Maintenance[];
      /** What came of the last openings by operators, by command id. */
      readonly serviceOpenings: Readonly<Record<string, OpenResult | 'pending'>>;
    });
export type RegisteredUnit = Exclude<RegistryState, { status: 'unregistered' }>;

export const NOT_REGISTERED: RegistryState = { status: 'unregistered' };

export function evolveRegistry(state: RegistryState, event: KnownEvent): RegistryState {
  if (event.type === 'UnitRegistered') return newRegistration(state, event);
  if (state.status === 'unregistered') return state;
  return withCommand(applyEvent(state, event), event.causationid);
}

/** A registration begins anew; of the former life of a retired unit, only the credentials that have ended stay known. */
function newRegistration(
  former: RegistryState,
  event: Extract<KnownEvent, { type: 'UnitRegistered' }>,
): RegisteredUnit {
  const { configuration: _, ...registration } = event.data;
  const commandId = event.causationid ?? '';
  return {
    ...registration,
    lockers: [...event.data.lockers],
    maintenance: [],
    serviceOpenings: {},
    status: 'registered',
    credentialsRevoked: false,
    formerNatsUsers: former.status === 'unregistered' ? [] : [...former.formerNatsUsers, former.natsUser],
    registrationCommandId: commandId,
    credentialsCommandId: commandId,
    revision: former.status === 'unregistered' ? 1 : former.revision + 1,
    commandIds: [commandId],
  };
}

function applyEvent(state: RegisteredUnit, event: KnownEvent): RegisteredUnit {
  switch (event.type) {
    case 'UnitUpdated':
      return { ...state, ...event.data, revision: state.revision + 1 };
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
      return { ...state, lockers: [...state.lockers, event.data] };
    case 'LockerRemoved':
      return { ...state, lockers: state.lockers.filter(({ id }) => id !== event.data.id) };
    case 'LockerTakenOutOfService': {
      const { id, when = 'now', ...outOfService } = event.data;
      return withLocker(state, id, { ...outOfService, when, since: event.time });
    }
    case 'LockerReturnedToService':
      return withLocker(state, event.data.id, undefined);
    case 'UnitMaintenancePlanned': {
      const running = state.maintenance.filter(({ until }) => toMs(until) > toMs(event.time));
      return { ...state, maintenance: [...running, event.data] };
    }
    case 'UnitMaintenanceCancelled':
      return { ...state, maintenance: state.maintenance.filter(({ id }) => id !== event.data.id) };
    case 'ServiceOpenRequested':
      return withOpening(state, event.data.commandId, 'pending');
    case 'ServiceOpenAnswered':
      return withOpening(state, event.data.commandId, event.data.result);
    case 'UnitRetired':
      return { ...state, status: 'retired' };
    default:
      return state;
  }
}

function withLocker(state: RegisteredUnit, lockerId: string, outOfService: OutOfService | undefined): RegisteredUnit {
  const lockers = state.lockers.map((locker) => {
    if (locker.id !== lockerId) return locker;
    const { id, size } = locker;
    return outOfService === undefined ? { id, size } : { id, size, outOfService };
  });
  return { ...state, lockers };
}

function withOpening(state: RegisteredUnit, commandId: string, result: OpenResult | 'pending'): RegisteredUnit {
  const openings = Object.entries({ ...state.serviceOpenings, [commandId]: result });
  return { ...state, serviceOpenings: Object.fromEntries(openings.slice(-MAX_REMEMBERED_OPENINGS)) };
}

function withCommand(state: RegisteredUnit, commandId: string | undefined): RegisteredUnit {
  if (commandId === undefined || state.commandIds.includes(commandId)) return state;
  return { ...state, commandIds: [...state.commandIds, commandId].slice(-MAX_REMEMBERED_COMMANDS) };
}

/** Whether a command has changed the unit before. */
export function isRepeatedCommand({ commandIds }: RegisteredUnit, commandId: string): boolean {
  return commandIds.includes(commandId);
}

/** What a retired unit leaves to the next one with its name. */
export interface FormerUnit {
  readonly openBookings: number;
  readonly configurationVersion: number;
}

const NO_FORMER_UNIT: FormerUnit = { openBookings: 0, configurationVersion: 0 };

/**
 * Registers a unit. The name of a retired unit may be registered anew once its bookings have ended: the unit gets a new version of its
 * key, so that the credentials of the former unit stay ended.
 */
export function registerUnit(
  registry: RegistryState,
  registration: Omit<Registration, 'keyVersion'>,
  commandId: string,
  former: FormerUnit = NO_FORMER_UNIT,
): Extract<EventDraft, { type: 'UnitRegistered' }>[] {
  if (registry.status === 'registered') {
    if (registry.registrationCommandId === commandId) return [];
    throw new Refusal('validation', `A unit named ${registration.name} exists already.`, [
      { path: '/name', message: 'is taken' },
    ]);
  }
  if (former.openBookings > 0)
    throw new Refusal(
      'unit-in-use',
      'The bookings of the retired unit with this name are not settled yet. Send the request again in a few seconds.',
    );
  if (registry.status === 'retired' && registry.formerNatsUsers.length >= MAX_ROTATIONS_PER_UNIT)
    throw new Refusal('validation', `The name has had ${MAX_ROTATIONS_PER_UNIT} credentials. Use another name.`, [
      { path: '/name', message: 'has had too many credentials' },
    ]);
  // Versions of the configuration go on, because the history of the name has the former ones.
  const version = registration.configuration.version + former.configurationVersion;
  const configuration = { ...registration.configuration, version };
  const seen = new Set<string>();
  registration.lockers.forEach((locker, index) => {
    if (seen.has(locker.id)) {
      throw new Refusal('validation', 'Two lockers have the same id.', [
        { path: `/lockers/${index}/id`, message: `${locker.id} stands twice` },
      ]);
    }
    seen.add(locker.id);
  });
  const keyVersion = registry.status === 'retired' ? registry.keyVersion + 1 : FIRST_KEY_VERSION;
  return [{ type: 'UnitRegistered', data: { ...registration, configuration, keyVersion } }];
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

/** The unit, registered or retired. @throws Refusal `not-found` when it was never registered */
export function requireRegistered(state: RegistryState): RegisteredUnit {
  if (state.status === 'unregistered') throw new Refusal('not-found', 'There is no such unit.');
  return state;
}

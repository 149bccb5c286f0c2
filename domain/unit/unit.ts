/**
 * A unit, folded from all its subjects. Each part is a fold of its own subjects with its own sequence, so the order in
 * which commits of different subjects arrive does not matter; a decision looks at all parts together.
 */

import { type BookingState, evolveBooking, NO_BOOKINGS } from '../booking/reservation.ts';
import { type ConfigurationState, evolveConfiguration, NOT_CONFIGURED } from '../configuration/configuration.ts';
import { type Connectivity, evolveConnectivity, NEVER_SEEN } from '../connectivity/connectivity.ts';
import { advanceRecordedSeq, type DeviceState, evolveDevice, UNREPORTED_DEVICE } from '../device/device.ts';
import { EMPTY_UNIT_LOG, evolveUnitLog, type UnitLogState } from '../device/unit-log.ts';
import { upcast } from '../events/catalogue.ts';
import { AGGREGATES, type Aggregate, type CloudEvent } from '../events/cloud-event.ts';
import { evolveRegistry, NOT_REGISTERED, type RegistryState } from '../registry/registry.ts';

/** Version of the shape and meaning of the folds. It grows with each change of them; snapshots of older versions are not used. */
export const UNIT_FOLD_VERSION = 11;

export interface UnitState {
  readonly name: string;
  readonly registry: RegistryState;
  readonly configuration: ConfigurationState;
  readonly connectivity: Connectivity;
  readonly booking: BookingState;
  readonly device: DeviceState;
  readonly log: UnitLogState;
  /** The sequence of the last folded commit of each subject, or 0: an append expects it. */
  readonly sequences: Readonly<Record<Aggregate, number>>;
}

/** The part of a commit that a fold needs. */
export interface FoldableCommit {
  readonly aggregate: Aggregate;
  readonly sequence: number;
  readonly events: readonly CloudEvent[];
}

const NO_SEQUENCES = Object.fromEntries(AGGREGATES.map((aggregate) => [aggregate, 0])) as Record<Aggregate, number>;

export function newUnitState(name: string): UnitState {
  return {
    name,
    registry: NOT_REGISTERED,
    configuration: NOT_CONFIGURED,
    connectivity: NEVER_SEEN,
    booking: NO_BOOKINGS,
    device: UNREPORTED_DEVICE,
    log: EMPTY_UNIT_LOG,
    sequences: NO_SEQUENCES,
  };
}

/** Folds one commit into the state. A commit that is folded already changes nothing. */
export function evolveUnit(state: UnitState, commit: FoldableCommit): UnitState {
  if (commit.sequence <= state.sequences[commit.aggregate]) return state;
  const folded = commit.events.reduce((next, event) => {
    const start = event.type === 'UnitRegistered' ? withoutFormerReports(next, commit.sequence) : next;
    return evolvePart(start, commit.aggregate, event);
  }, state);
  return { ...folded, sequences: { ...state.sequences, [commit.aggregate]: commit.sequence } };
}

/**
 * A unit that is registered anew has reported nothing. The recorded places of the former unit's log stay, so that a replay of them is
 * recognised. A part that has a later commit already belongs to the new unit.
 */
function withoutFormerReports(state: UnitState, sequence: number): UnitState {
  const { registry, device, connectivity, sequences } = state;
  if (registry.status === 'unregistered') return state;
  const { epochs, droppedEpoch } = device;
  const places = droppedEpoch === undefined ? { epochs } : { epochs, droppedEpoch };
  return {
    ...state,
    device: sequences.device < sequence ? { ...UNREPORTED_DEVICE, ...places } : device,
    connectivity: sequences.connectivity < sequence ? NEVER_SEEN : connectivity,
  };
}

function evolvePart(state: UnitState, aggregate: Aggregate, event: CloudEvent): UnitState {
  const known = upcast(event);
  if (aggregate === 'device') {
    const device = advanceRecordedSeq(state.device, event);
    return { ...state, device: known === undefined ? device : evolveDevice(device, known) };
  }
  if (known === undefined) return state;
  switch (aggregate) {
    case 'registry':
      // The registration carries the first configuration of the unit.
      return {
        ...state,
        registry: evolveRegistry(state.registry, known),
        configuration: evolveConfiguration(state.configuration, known),
      };
    case 'config':
      return { ...state, configuration: evolveConfiguration(state.configuration, known) };
    case 'connectivity':
      return { ...state, connectivity: evolveConnectivity(state.connectivity, known) };
    case 'booking':
      return { ...state, booking: evolveBooking(state.booking, known) };
    case 'log':
      return { ...state, log: evolveUnitLog(state.log, known) };
    default:
      return state;
  }
}

/** The highest sequence of the folded commits of all subjects. */
export function lastSequenceOf({ sequences }: UnitState): number {
  return Math.max(...Object.values(sequences));
}

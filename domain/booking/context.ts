import type { ConfigurationState } from '../configuration/configuration.ts';
import type { DeviceState } from '../device/device.ts';
import type { UnitLogState } from '../device/unit-log.ts';
import type { RegistryState } from '../registry/registry.ts';
import type { BookingState } from './reservation.ts';

/** The parts of a unit that the decisions on its bookings read. */
export interface BookingContext {
  readonly registry: RegistryState;
  readonly configuration: ConfigurationState;
  readonly device: DeviceState;
  readonly log: UnitLogState;
  readonly booking: BookingState;
}

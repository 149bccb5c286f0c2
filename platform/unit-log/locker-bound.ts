/**
 * Bounds the lockers of a unit's state. A unit may report a locker before an operator registers it, or after it was removed, and a process
 * may hear of the registration late. So unregistered lockers count too, up to a bound; an event of a further one is rejected.
 */

import { type DeviceState, MAX_REPORTED_LOCKERS } from '../../domain/device/device.ts';
import { type EventOf, versionOf } from '../../domain/events/catalogue.ts';
import type { RegistryState } from '../../domain/registry/registry.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';

/** Lockers of a unit that it has reported and that are not registered. */
export const MAX_UNREGISTERED_LOCKERS = 100;

/** The lockers that a unit has reported, while a batch is planned. */
export class LockerBound {
  readonly #registered: ReadonlySet<string>;
  #reported: Set<string>;
  #unregistered: number;

  constructor({ registry, device }: { readonly registry: RegistryState; readonly device: DeviceState }) {
    this.#registered = new Set(registry.status === 'unregistered' ? [] : registry.lockers.map(({ id }) => id));
    this.#reported = new Set(Object.keys(device.lockers));
    this.#unregistered = this.#countUnregistered(this.#reported);
  }

  /** Notes the lockers of a valid event. @returns why the event is rejected, or undefined when its lockers are within the bounds */
  add(event: BatchEvent): string | undefined {
    const { type, v, locker, data } = event;
    if (type === 'UnitStateReported' && v === versionOf(type)) return this.#replace(data as EventOf<typeof type>);
    if (locker === undefined || this.#reported.has(locker)) return undefined;
    if (this.#reported.size >= MAX_REPORTED_LOCKERS) {
      return `the unit has reported ${MAX_REPORTED_LOCKERS} lockers, and ${locker} is another one`;
    }
    if (!this.#registered.has(locker)) {
      if (this.#unregistered >= MAX_UNREGISTERED_LOCKERS) {
        return `locker ${locker} is not registered, like ${this.#unregistered} others that the unit has reported`;
      }
      this.#unregistered += 1;
    }
    this.#reported.add(locker);
    return undefined;
  }

  /** A state report replaces the lockers of the state. */
  #replace({ lockers }: EventOf<'UnitStateReported'>): string | undefined {
    const reported = new Set(lockers.map(({ id }) => id));
    const unregistered = this.#countUnregistered(reported);
    if (unregistered > MAX_UNREGISTERED_LOCKERS) {
      return `${unregistered} of its lockers are not registered, more than ${MAX_UNREGISTERED_LOCKERS}`;
    }
    this.#reported = reported;
    this.#unregistered = unregistered;
    return undefined;
  }

  #countUnregistered(lockers: ReadonlySet<string>): number {
    let count = 0;
    for (const id of lockers) if (!this.#registered.has(id)) count += 1;
    return count;
  }
}

/**
 * Customers who walk up to the screens: they rent, shut the door, perhaps come back once, and give the locker back. When
 * they come and what they want is drawn from the seed. A customer whose locker outlived the simulator comes back to it.
 */

import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { FleetMetrics } from '../emulation/fleet-metrics.ts';
import type { Timers } from '../environment/clock.ts';
import type { Random } from '../environment/random.ts';
import type { Visit } from '../scenarios/scenarios.ts';
import { StoreError } from '../store/group-commit.ts';
import { closeDoor, giveBackLocker, openLocker, rentAtScreen } from '../unit/customer-actions.ts';
import { lockerOf, type UnitLocker } from '../unit/model.ts';

const MS_PER_MINUTE = 60_000;
/** The wait for the next customer is drawn anew this often, so that a changed rate is followed; exponential waits allow it. */
const LONGEST_DRAW_MS = 1_000;

export interface CustomerDependencies {
  readonly units: readonly EmulatedUnit[];
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: FleetMetrics;
}

export class Customers {
  readonly #deps: CustomerDependencies;
  #visit: Visit;
  #walkUpsPerMinute = 0;
  #stopped = false;

  constructor(visit: Visit, deps: CustomerDependencies) {
    this.#deps = deps;
    this.#visit = visit;
  }

  /** Customers begin to come, and those who left a locker rented come back to it. */
  start(): void {
    for (const unit of this.#deps.units) {
      for (const { id, rental } of unit.model.lockers) {
        if (rental?.byScenario === true) this.#later(() => this.#leave(unit, id, rental.rentalId, 0));
      }
    }
    this.#await();
  }

  /** How many come to the whole fleet, and how they behave from now on. */
  setArrivalRate(walkUpsPerMinute: number, visit: Visit): void {
    this.#walkUpsPerMinute = walkUpsPerMinute;
    this.#visit = visit;
  }

  /** Nobody does anything any more. Lockers that are rented stay rented. */
  stop(): void {
    this.#stopped = true;
  }

  #await(): void {
    const { random, timers, units } = this.#deps;
    if (this.#stopped || units.length === 0) return;
    const rate = this.#walkUpsPerMinute;
    const waitMs = rate <= 0 ? Number.POSITIVE_INFINITY : random.exponential(MS_PER_MINUTE / rate);
    const comes = waitMs <= LONGEST_DRAW_MS;
    timers.after(Math.min(waitMs, LONGEST_DRAW_MS), () => {
      if (comes) void this.#step(() => this.#arrive(random.pick(units)));
      this.#await();
    });
  }

  async #arrive(unit: EmulatedUnit): Promise<void> {
    const { metrics, random } = this.#deps;
    const { rentalMinutes, reopenChance } = this.#visit;
    const minutes = random.integer(...rentalMinutes);
    const comesBack = random.chance(reopenChance) ? 1 : 0;
    const rented = await unit.decide((model, around) => rentAtScreen(model, { minutes, byScenario: true }, around));
    if (!rented.done) {
      metrics.customersTurnedAway += 1;
      return;
    }
    metrics.customersServed += 1;
    this.#later(() => this.#leave(unit, rented.locker, rented.rentalId, comesBack));
  }

  /** What comes next for a rental: shut the door, then come back to open it again, or give the locker back. */
  async #leave(unit: EmulatedUnit, id: string, rentalId: string, comesBack: number): Promise<void> {
    const locker = this.#ownLocker(unit, id, rentalId);
    if (locker === undefined) return;
    if (locker.door === 'open') {
      await unit.decide((model, around) => closeDoor(model, id, around));
      this.#later(() => this.#leave(unit, id, rentalId, comesBack));
    } else if (comesBack > 0) {
      await unit.decide((model, around) => openLocker(model, id, around));
      this.#later(() => this.#leave(unit, id, rentalId, comesBack - 1));
    } else {
      await unit.decide((model, around) => giveBackLocker(model, id, around));
    }
  }

  /** The locker, unless its rental is over: wiped, released, or given back by somebody else. */
  #ownLocker(unit: EmulatedUnit, id: string, rentalId: string): UnitLocker | undefined {
    const locker = lockerOf(unit.model, id);
    return locker?.rental?.rentalId === rentalId ? locker : undefined;
  }

  #later(step: () => Promise<void>): void {
    const { random, timers } = this.#deps;
    timers.after(random.between(...this.#visit.stepMs), () => void this.#step(step));
  }

  async #step(step: () => Promise<void>): Promise<void> {
    if (this.#stopped) return;
    try {
      await step();
    } catch (error) {
      // A store that fails or closes says so itself; there is nothing left for a customer to do.
      if (!(error instanceof StoreError)) throw error;
    }
  }
}

/**
 * Customers who walk up to the screens of a fleet: each rents a locker, closes it, perhaps opens it once more, and gives
 * it back. The times of their arrivals and their choices are drawn from the seed.
 */

import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { FleetMetrics } from '../emulation/fleet-metrics.ts';
import type { Random } from '../environment/random.ts';
import type { Timers } from '../environment/timers.ts';
import { StoreError } from '../store/group-commit.ts';
import { closeDoor, giveBackLocker, openLocker, rentAtScreen } from '../unit/customer-actions.ts';
import { findLocker, type UnitLocker } from '../unit/model.ts';
import { type ArrivalCount, Arrivals } from './arrivals.ts';
import type { Visit } from './visit.ts';

export interface CustomersDependencies {
  readonly units: readonly EmulatedUnit[];
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: FleetMetrics;
}

export class Customers {
  readonly #deps: CustomersDependencies;
  readonly #arrivals: Arrivals;
  #visit: Visit;
  #isStopped = false;

  constructor(visit: Visit, deps: CustomersDependencies) {
    const { timers, random, units } = deps;
    this.#deps = deps;
    this.#visit = visit;
    this.#arrivals = new Arrivals({
      timers,
      random,
      begin: () => this.#run(() => this.#beginVisit(random.pick(units))),
    });
  }

  /** Customers whose rental an earlier run of the simulator has left in the store continue their visits. */
  continueVisits(): void {
    for (const unit of this.#deps.units) {
      for (const { id, rental } of unit.model.lockers) {
        if (rental?.byScenario === true) this.#runLater(() => this.#continueVisit(unit, id, rental.rentalId, 0));
      }
    }
  }

  /** Sets the rate of arrivals in the whole fleet, and the behaviour of customers from their next step on. */
  setArrivalRate(walkUpsPerMinute: number, visit: Visit): void {
    this.#visit = visit;
    this.#arrivals.setRate(this.#deps.units.length === 0 ? 0 : walkUpsPerMinute);
  }

  /** How many arrivals the rates have asked for since the beginning, and how many have begun. */
  arrivals(): ArrivalCount {
    return this.#arrivals.reached();
  }

  /** Ends the arrivals and all visits. Rented lockers stay rented. */
  stop(): void {
    this.#isStopped = true;
    this.#arrivals.stop();
  }

  async #beginVisit(unit: EmulatedUnit): Promise<void> {
    const { metrics, random } = this.#deps;
    const { rentalMinutes, reopenChance } = this.#visit;
    const minutes = random.integer(...rentalMinutes);
    const reopenings = random.isChosen(reopenChance) ? 1 : 0;
    const rented = await unit.decide((model, context) => rentAtScreen(model, { minutes, byScenario: true }, context));
    if (!rented.done) {
      metrics.customersTurnedAway += 1;
      return;
    }
    metrics.customersServed += 1;
    this.#runLater(() => this.#continueVisit(unit, rented.locker, rented.rentalId, reopenings));
  }

  /** The next step of a visit: the customer closes an open door, else opens it again, else gives the locker back. */
  async #continueVisit(unit: EmulatedUnit, id: string, rentalId: string, reopenings: number): Promise<void> {
    const locker = findRentedLocker(unit, id, rentalId);
    if (locker === undefined) return;
    if (locker.door === 'open') {
      await unit.decide((model, context) => closeDoor(model, id, context));
      this.#runLater(() => this.#continueVisit(unit, id, rentalId, reopenings));
    } else if (reopenings > 0) {
      await unit.decide((model, context) => openLocker(model, id, context));
      this.#runLater(() => this.#continueVisit(unit, id, rentalId, reopenings - 1));
    } else {
      await unit.decide((model, context) => giveBackLocker(model, id, context));
    }
  }

  #runLater(step: () => Promise<void>): void {
    const { random, timers } = this.#deps;
    timers.after(random.between(...this.#visit.stepMs), () => void this.#run(step));
  }

  async #run(step: () => Promise<void>): Promise<void> {
    if (this.#isStopped) return;
    try {
      await step();
    } catch (error) {
      // The store reports its own failure to `onStoreFailure`, which ends the process.
      if (!(error instanceof StoreError)) throw error;
    }
  }
}

/** The locker if it still has this rental. A wipe, a release or the control API may have ended the rental. */
function findRentedLocker(unit: EmulatedUnit, id: string, rentalId: string): UnitLocker | undefined {
  const locker = findLocker(unit.model, id);
  return locker?.rental?.rentalId === rentalId ? locker : undefined;
}

/** Plays a bad day from a seed: customers who are late, early, absent or greedy, at a unit that is cut off, wiped, slow or wrong about the time. */

import { isFailureOfLocker } from '../../../domain/booking/reservation.ts';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import type { OfflineTokenClaims } from '../../../domain/unit-protocol/commands.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import type { SeededRandom } from '../../support/random.ts';
import { MINUTE_MS, UNIT, World } from './world.ts';

const DAY_MINUTES = 5 * 60;
const CUSTOMERS = 10;
const WALK_UPS = 4;
const TROUBLES = 10;
const RETRY_MINUTES = 3;
/** Settlement may come this much later than it is due. */
const MAX_LATENESS_MS = 2_000;

/** What may follow a locker that failed for a customer. */
const OUTCOMES_OF_FAILURE: ReadonlySet<string> = new Set([
  'ReservationMoved',
  'ReservationStarted',
  'ReservationRejected',
  'ReservationCancelled',
]);

interface Appointment {
  readonly atMs: number;
  readonly happen: () => Promise<void>;
}

/** What became of a customer with a paid reservation. */
interface Paid {
  readonly id: string;
  hasTried: boolean;
  hasHadLocker: boolean;
  hasCancelled: boolean;
}

class BadDay {
  readonly world: World;
  readonly #random: SeededRandom;
  readonly #appointments: Appointment[] = [];
  readonly #paid: Paid[] = [];

  constructor(random: SeededRandom) {
    this.#random = random;
    this.world = new World(random);
  }

  async play(): Promise<readonly string[]> {
    const { world } = this;
    await world.start();
    const startMs = world.nowMs;
    const at = (minute: number, happen: () => Promise<void>) =>
      this.#at(startMs + minute * MINUTE_MS + this.#random.below(MINUTE_MS), happen);
    for (let index = 0; index < CUSTOMERS; index += 1)
      at(this.#random.below(DAY_MINUTES), () => this.#reserve(`customer-${index}`));
    for (let index = 0; index < WALK_UPS; index += 1)
      at(this.#random.below(DAY_MINUTES), () => this.#walkUp(`walk-up-${index}`));
    for (let index = 0; index < TROUBLES; index += 1) at(this.#random.below(DAY_MINUTES), () => this.#trouble());
    for (let minute = 0; minute < DAY_MINUTES; minute += 2) at(minute, () => this.#background());
    await this.#run();
    await this.#evening();
    await world.stop();
    return world.violations;
  }

  #at(atMs: number, happen: () => Promise<void>): void {
    this.#appointments.push({ atMs, happen });
  }

  #in(minutes: number, happen: () => Promise<void>): void {
    this.#at(this.world.nowMs + minutes * MINUTE_MS, happen);
  }

  /** Lets time pass from one appointment or settlement to the next. */
  async #run(untilMs = Number.POSITIVE_INFINITY): Promise<void> {
    const { world } = this;
    for (;;) {
      this.#appointments.sort((a, b) => a.atMs - b.atMs);
      const [next] = this.#appointments;
      const dueMs = await world.dueMs();
      const nextMs = Math.min(next?.atMs ?? Number.POSITIVE_INFINITY, dueMs, untilMs);
      if (nextMs === Number.POSITIVE_INFINITY || nextMs >= untilMs) return;
      if (dueMs <= (next?.atMs ?? Number.POSITIVE_INFINITY)) {
        world.nowMs = Math.max(world.nowMs, dueMs + this.#random.below(MAX_LATENESS_MS));
        await world.settleDue(dueMs);
      } else if (next !== undefined) {
        this.#appointments.shift();
        world.nowMs = Math.max(world.nowMs, next.atMs);
        await next.happen();
      }
    }
  }

  async #background(): Promise<void> {
    const { world } = this;
    await world.push();
    world.beginSync();
    if (this.#random.below(3) > 0) await world.deliverPage();
  }

  async #trouble(): Promise<void> {
    const { world } = this;
    switch (this.#random.below(6)) {
      case 0:
      case 1: {
        await world.connect(false);
        this.#in(5 + this.#random.below(60), () => world.connect(true));
        break;
      }
      case 2:
        world.clockOffsetMs = this.#random.pick([0, 60_000, -100_000, 1_500]);
        break;
      case 3: {
        const { id } = world.lockers[this.#random.below(world.lockers.length)] ?? { id: 'A' };
        world.jammed.add(id);
        this.#in(10 + this.#random.below(60), async () => {
          world.jammed.delete(id);
        });
        break;
      }
      case 4:
        world.reboot();
        break;
      default:
        if (this.#random.below(3) === 0) world.wipe();
    }
  }

  async #reserve(customer: string): Promise<void> {
    const { world } = this;
    const fromMs = world.nowMs + this.#random.below(90) * MINUTE_MS;
    const untilMs = fromMs + (15 + this.#random.below(90)) * MINUTE_MS;
    const commandId = world.newId();
    const body = { unit: UNIT, size: 'S' as const, from: toInstant(fromMs), until: toInstant(untilMs) };
    const held = await world.app((service) => service.hold(commandId, customer, body));
    if (held === undefined) return;
    const { id } = held.body;
    if (this.#random.below(6) === 0) return;
    this.#in(1 + this.#random.below(5), async () => {
      const command = { commandId: world.newId(), customer, reservationId: id };
      if ((await world.app((service) => service.confirm(command, 'paid'))) === undefined) return;
      const paid: Paid = { id, hasTried: false, hasHadLocker: false, hasCancelled: false };
      this.#paid.push(paid);
      const token = await world.tokenOf(id);
      if (this.#random.below(6) === 0) {
        this.#in(this.#random.below(60), () => this.#cancel(paid, customer));
        // Some come all the same, with the QR code of the reservation that they have given up.
        if (this.#random.below(2) === 0) return;
      }
      if (this.#random.below(8) === 0) return;
      const arrivesMs = fromMs + (this.#random.below(40) - 5) * MINUTE_MS;
      this.#at(Math.max(world.nowMs, arrivesMs), () => this.#arrive(paid, customer, token, untilMs));
    });
  }

  async #cancel(paid: Paid, customer: string): Promise<void> {
    const { world } = this;
    const command = { commandId: world.newId(), customer, reservationId: paid.id };
    const cancelled = await world.app((service) => service.cancel(command));
    if (cancelled !== undefined) paid.hasCancelled = true;
  }

  /** The customer stands at the unit and tries the phone, then the QR code, until the period is over or the reservation has ended. */
  async #arrive(
    paid: Paid,
    customer: string,
    firstToken: OfflineTokenClaims | undefined,
    untilMs: number,
  ): Promise<void> {
    const { world } = this;
    const { id } = paid;
    const reservation = await world.reservation(id);
    if (reservation === undefined || world.nowMs >= untilMs) return;
    const isInPeriod = world.nowMs >= toMs(reservation.from);
    if (isInPeriod && reservation.status === 'confirmed') paid.hasTried = true;
    const locker = await this.#openByAnyMeans(id, customer, firstToken);
    if (locker !== undefined) {
      paid.hasHadLocker = true;
      world.putIn(locker, id);
      world.closeDoor(locker);
      const staysMinutes = Math.max(5, (untilMs - world.nowMs) / MINUTE_MS + this.#random.below(120) - 60);
      this.#in(staysMinutes, () => this.#leave(id, customer));
      return;
    }
    const isOver = ['rejected', 'cancelled', 'expired', 'completed'].includes(reservation.status);
    if (!isOver || !world.isConnected) this.#in(RETRY_MINUTES, () => this.#arrive(paid, customer, firstToken, untilMs));
  }

  /** @returns the locker that stands open for the customer */
  async #openByAnyMeans(
    id: string,
    customer: string,
    firstToken: OfflineTokenClaims | undefined,
  ): Promise<string | undefined> {
    const { world } = this;
    const command = { commandId: world.newId(), customer, reservationId: id };
    const opened = await world.app((service) => service.open(command));
    if (opened !== undefined) return opened.body.locker;
    // The door may have opened although the answer was lost.
    const rented = world.rentedLocker(id);
    if (rented !== undefined && world.unit.lockers.some((each) => each.id === rented && each.door === 'open'))
      return rented;
    const token = (this.#random.below(2) === 0 ? await world.tokenOf(id) : undefined) ?? firstToken;
    return token === undefined ? undefined : world.redeem(token);
  }

  /** The customer takes the belongings and gives the locker back, at the screen or by phone. */
  async #leave(id: string, customer: string): Promise<void> {
    const { world } = this;
    const locker = [...world.belongings].find(([, owner]) => owner === id)?.[0];
    if (locker === undefined) return;
    if (world.exposed.has(locker)) return world.takeOut(locker);
    if (world.rentedLocker(id) !== locker) {
      world.violations.push(`the unit forgot the rental of ${id}, whose belongings are in locker ${locker}`);
      return world.takeOut(locker);
    }
    if (world.jammed.has(locker)) return this.#in(RETRY_MINUTES, () => this.#leave(id, customer));
    if (!world.openAtScreen(locker)) {
      world.violations.push(`locker ${locker} did not open for ${id}, whose belongings are in it`);
      return;
    }
    world.takeOut(locker);
    world.closeDoor(locker);
    if (this.#random.below(2) === 0) {
      const command = { commandId: world.newId(), customer, reservationId: id };
      if ((await world.app((service) => service.end(command))) !== undefined) return;
    }
    world.giveBack(locker);
  }

  async #walkUp(customer: string): Promise<void> {
    const { world } = this;
    const locker = world.walkUp(15 + this.#random.below(60));
    if (locker === undefined) return;
    world.putIn(locker, customer);
    world.closeDoor(locker);
    this.#in(10 + this.#random.below(120), () => this.#leaveWalkUp(locker, customer));
  }

  async #leaveWalkUp(locker: string, customer: string): Promise<void> {
    const { world } = this;
    if (world.belongings.get(locker) !== customer) return;
    if (world.exposed.has(locker)) return world.takeOut(locker);
    if (world.jammed.has(locker)) return this.#in(RETRY_MINUTES, () => this.#leaveWalkUp(locker, customer));
    if (!world.openAtScreen(locker)) {
      world.violations.push(`locker ${locker} did not open for ${customer}, whose belongings are in it`);
      return;
    }
    world.takeOut(locker);
    world.closeDoor(locker);
    world.giveBack(locker);
  }

  /** The connection is good again, everybody leaves, and three days pass. */
  async #evening(): Promise<void> {
    const { world } = this;
    world.jammed.clear();
    world.clockOffsetMs = 0;
    await world.connect(true);
    await world.drain();
    await this.#run(world.nowMs + 3 * 24 * 60 * MINUTE_MS);
    await world.drain();
    const { booking, device } = await world.state();
    if (booking.open.length > 0) {
      const left = booking.open.map(({ id, status, locker }) => `${id} is ${status} in ${locker}`);
      world.violations.push(`after everybody has left: ${left.join(', ')}`);
    }
    for (const { id, rental } of world.unit.lockers) {
      const reported = device.lockers[id]?.rental;
      if (rental?.rentalId !== reported?.rentalId)
        world.violations.push(`the platform and the unit differ about ${id}`);
    }
    for (const paid of this.#paid) await this.#judge(paid);
  }

  /** Everybody who paid and came gets a locker, or the event that gives the money back. */
  async #judge({ id, hasTried, hasHadLocker, hasCancelled }: Paid): Promise<void> {
    if (this.world.lostByWipe.has(id)) return;
    const history = await this.world.historyOf(id);
    const types = history.map(({ type }) => type);
    this.#judgeFailures(id, history);
    if (hasHadLocker && !types.includes('ReservationStarted'))
      this.world.violations.push(`${id} had a locker, and the platform does not know: ${types.join(' ')}`);
    if (!hasTried || hasHadLocker || hasCancelled) return;
    if (!types.includes('ReservationRejected'))
      this.world.violations.push(`${id} paid and came, and got neither a locker nor a rejection: ${types.join(' ')}`);
  }

  /** A customer whose locker failed gets in after all, moves to another one, or is rejected before the period is over. */
  #judgeFailures(id: string, history: readonly CloudEvent[]): void {
    const until = (history[0]?.data as EventOf<'ReservationHeld'> | undefined)?.until ?? '';
    history.forEach((event, index) => {
      if (event.type !== 'LockerOpenAnswered') return;
      const { result, reason } = event.data as EventOf<'LockerOpenAnswered'>;
      const isUsed = history.slice(0, index).some(({ type }) => type === 'ReservationStarted');
      if (isUsed || !isFailureOfLocker(result, reason)) return;
      const outcome = history.slice(index + 1).find(({ type }) => OUTCOMES_OF_FAILURE.has(type));
      if (outcome === undefined || toMs(outcome.time) > toMs(until) + MAX_LATENESS_MS)
        this.world.violations.push(`${id} found its locker ${reason} at ${event.time}, and was left alone`);
    });
  }
}

/** @returns what happened and must never happen */
export function playBadDay(random: SeededRandom): Promise<readonly string[]> {
  return new BadDay(random).play();
}

/** Random lives of many units, decided by the domain: what the projections are tested and measured with. */

import {
  cancelReservation,
  confirmReservation,
  endReservation,
  holdLocker,
  requestLockerOpen,
} from '../../domain/booking/customer-decisions.ts';
import { allReservations } from '../../domain/booking/reservation.ts';
import { settleBookings } from '../../domain/booking/settlement.ts';
import { requireConfigured } from '../../domain/configuration/configuration.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import {
  changeConfiguration,
  type PushOutcome,
  recordPushOutcome,
  recordReportedHash,
} from '../../domain/configuration/delivery.ts';
import { markUnitOffline, markUnitOnline } from '../../domain/connectivity/connectivity.ts';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { type EventDraft, envelop } from '../../domain/events/drafts.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { RegisteredLocker, RegisteredUnit } from '../../domain/registry/registry.ts';
import { evolveUnit, newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { LOCKER_SIZES, toInstant } from '../../domain/vocabulary.ts';
import type { Append } from '../../platform/event-store/store.ts';
import type { SeededRandom } from './random.ts';
import { accessCodeOf } from './scene.ts';

const START_MS = Date.parse('2026-06-01T08:00:00.000Z');
const MINUTE_MS = 60_000;
const CUSTOMERS = 25;

/** The actions, each with the frequency with which it is listed. */
const ACTIONS = [
  ...['hold', 'hold', 'hold', 'hold', 'confirm', 'confirm', 'confirm', 'cancel', 'open', 'end', 'settle', 'settle'],
  ...['walk-up', 'walk-up', 'redeem', 'redeem', 'give-back', 'give-back', 'door', 'door', 'door', 'error'],
  ...['online', 'offline', 'service', 'update', 'configure', 'report'],
] as const;

export class FleetHistory {
  readonly #random: SeededRandom;
  readonly #states = new Map<string, UnitState>();
  readonly #names: string[];
  readonly #lockers: number;
  #sequence = 0;
  #ids = 0;
  nowMs = START_MS;

  /** Units are called `prefix-1000` and so on. */
  constructor(
    random: SeededRandom,
    { units, lockers, prefix = 'PL' }: { readonly units: number; readonly lockers: number; readonly prefix?: string },
  ) {
    this.#random = random;
    this.#lockers = lockers;
    this.#names = Array.from({ length: units }, (_, index) => `${prefix}-${1000 + index}`);
  }

  get states(): ReadonlyMap<string, UnitState> {
    return this.#states;
  }

  /** The next `count` commits. They are in the store's order: the first of all has sequence 1. */
  nextCommits(count: number): Append[] {
    const commits: Append[] = [];
    while (commits.length < count) commits.push(...this.#step());
    return commits.slice(0, count);
  }

  #step(): Append[] {
    const name = this.#names[this.#random.below(this.#names.length)] ?? '';
    const state = this.#states.get(name) ?? newUnitState(name);
    this.nowMs += this.#random.below(20_000);
    const { registry } = state;
    if (registry.status === 'unregistered') return this.#append(state, 'registry', [this.#registration(name)], 'ops:a');
    const action = ACTIONS[this.#random.below(ACTIONS.length)] ?? 'hold';
    try {
      return this.#act(action, state, registry);
    } catch (error) {
      if (error instanceof Refusal) return [];
      throw error;
    }
  }

  #act(action: (typeof ACTIONS)[number], state: UnitState, registry: RegisteredUnit): Append[] {
    const { nowMs } = this;
    switch (action) {
      case 'online':
        return this.#append(
          state,
          'connectivity',
          markUnitOnline(state.connectivity, 'ping', nowMs),
          'platform:pinger',
        );
      case 'offline':
        return this.#append(
          state,
          'connectivity',
          markUnitOffline(state.connectivity, 3, toInstant(nowMs - 30_000)),
          'platform:pinger',
        );
      case 'settle':
        return this.#append(state, 'booking', settleBookings(state, nowMs), 'platform:reactor');
      case 'service':
      case 'update':
      case 'configure':
        return this.#operate(action, state, registry);
      case 'hold':
      case 'confirm':
      case 'cancel':
      case 'open':
      case 'end':
        return this.#book(action, state);
      default:
        return this.#report(action, state, registry);
    }
  }

  /** A change of the configuration, or what becomes of the last one. */
  #configure(state: UnitState): EventDraft[] {
    const { status, desired } = requireConfigured(state.configuration);
    const { version, hash, values } = desired;
    if (status === 'queued' || status === 'failed') {
      const outcomes: readonly PushOutcome[] = [
        { answer: 'done', hash },
        { answer: 'failed', reason: 'no answer' },
        { answer: 'rejected', reason: 'too many texts' },
      ];
      const outcome = outcomes[this.#random.below(outcomes.length)] ?? { answer: 'done', hash };
      return recordPushOutcome(state, { version, outcome, nowMs: this.nowMs, retryScheduleS: [60] });
    }
    if (status === 'applied' && this.#random.below(3) === 0) {
      return recordReportedHash(state, { hash: 'c'.repeat(16), atMs: this.nowMs });
    }
    const changed = { ...values, minimumMinutes: 5 + this.#random.below(30) };
    return changeConfiguration(state, { commandId: `c${this.#next()}`, values: changed, mode: 'queued' });
  }

  #operate(action: 'service' | 'update' | 'configure', state: UnitState, registry: RegisteredUnit): Append[] {
    if (action === 'update') {
      const data = { displayName: `Renamed ${this.#next()}`, location: this.#location() };
      return this.#append(state, 'registry', [{ type: 'UnitUpdated', data }], 'ops:a');
    }
    if (action === 'configure') {
      return this.#append(state, 'config', this.#configure(state), 'ops:a');
    }
    const locker = registry.lockers[this.#random.below(registry.lockers.length)];
    if (locker === undefined) return [];
    return this.#append(state, 'registry', [this.#serviceDraft(registry, locker)], 'ops:a');
  }

  #serviceDraft({ maintenance }: RegisteredUnit, { id, outOfService }: RegisteredLocker): EventDraft {
    const minutes = (most: number) => toInstant(this.nowMs + (1 + this.#random.below(most)) * MINUTE_MS);
    if (this.#random.below(4) === 0) {
      const cancelled = maintenance[this.#random.below(maintenance.length + 1)];
      if (cancelled !== undefined) return { type: 'UnitMaintenanceCancelled', data: { id: cancelled.id } };
      const data = { id: `m${this.#next()}`, from: minutes(60), until: minutes(240), reason: 'paint' };
      return { type: 'UnitMaintenancePlanned', data };
    }
    if (outOfService !== undefined) return { type: 'LockerReturnedToService', locker: id, data: { id } };
    const when = this.#random.below(2) === 0 ? 'now' : 'when-free';
    const data = { id, reason: 'bent', when, ...(this.#random.below(2) === 0 ? {} : { until: minutes(240) }) } as const;
    return { type: 'LockerTakenOutOfService', locker: id, data };
  }

  #book(action: 'hold' | 'confirm' | 'cancel' | 'open' | 'end', state: UnitState): Append[] {
    const { nowMs } = this;
    const commandId = this.#uuid();
    const customer = `00000000-0000-4000-8000-${String(this.#random.below(CUSTOMERS)).padStart(12, '0')}`;
    if (action === 'hold') {
      const fromMs = nowMs + this.#random.below(240) * MINUTE_MS;
      const untilMs = fromMs + (15 + this.#random.below(180)) * MINUTE_MS;
      const size = LOCKER_SIZES[this.#random.below(LOCKER_SIZES.length)] ?? 'M';
      const reservationId = `${state.name}.${commandId}`;
      const period = { from: toInstant(fromMs), until: toInstant(untilMs) };
      const drafts = holdLocker(state, { commandId, reservationId, customer, nowMs, requested: { size }, ...period });
      return this.#append(state, 'booking', drafts, `customer:${customer}`, commandId);
    }
    const reservations = allReservations(state.booking);
    const reservation = reservations[this.#random.below(reservations.length)];
    if (reservation === undefined) return [];
    const command = { commandId, reservationId: reservation.id, customer: reservation.customer, nowMs };
    const drafts = {
      confirm: () => confirmReservation(state, { ...command, paymentReference: `pay-${commandId}`, accessCodeOf }),
      cancel: () => cancelReservation(state, command),
      open: () => requestLockerOpen(state, command),
      end: () => endReservation(state, command),
    }[action]();
    return this.#append(state, 'booking', drafts, `customer:${reservation.customer}`, commandId);
  }

  /** The unit reports one to three facts in a batch. */
  #report(action: string, state: UnitState, registry: RegisteredUnit): Append[] {
    const drafts: EventDraft[] = [];
    for (let n = 1 + this.#random.below(3); n > 0; n--) {
      const draft = this.#fact(drafts.length === 0 ? action : 'door', state, registry);
      if (draft !== undefined) drafts.push(draft);
    }
    if (drafts.length === 0) return [];
    // A store that was wiped often is wiped seldom again: a unit has few epochs, however long its history.
    const { epoch: present, epochs } = state.device;
    const isWiped = action === 'report' && this.#random.below(1 + Object.keys(epochs).length) === 0;
    const isNewEpoch = present === undefined || isWiped;
    const epoch = isNewEpoch ? `0190${this.#uuid().slice(4)}` : (present ?? '');
    const first = isNewEpoch ? 1 : (epochs[epoch] ?? 0) + 1;
    return this.#append(state, 'device', drafts, `unit:${state.name}`, undefined, (event, index) => ({
      ...event,
      id: `${state.name}/${epoch}/${first + index}`,
      unitepoch: epoch,
      unitseq: first + index,
    }));
  }

  #fact(action: string, state: UnitState, registry: RegisteredUnit): EventDraft | undefined {
    const locker = registry.lockers[this.#random.below(registry.lockers.length)]?.id ?? 'L1';
    const rental = state.device.lockers[locker]?.rental;
    const until = toInstant(this.nowMs + (10 + this.#random.below(90)) * MINUTE_MS);
    switch (action) {
      case 'walk-up':
        return { type: 'RentalStarted', locker, data: { rentalId: this.#uuid(), until } };
      case 'redeem': {
        const reservation = state.booking.open.find(({ status }) => status === 'confirmed');
        if (reservation === undefined) return undefined;
        const data = { rentalId: this.#uuid(), reservationId: reservation.id, until };
        return { type: 'RentalStarted', locker: reservation.locker, data };
      }
      case 'give-back': {
        if (rental === undefined) return undefined;
        const { rentalId, reservationId } = rental;
        const used = reservationId === undefined ? {} : { reservationId };
        return { type: 'RentalEnded', locker, data: { rentalId, reason: 'given-back', ...used } };
      }
      case 'error':
        return {
          type: 'HardwareErrorRaised',
          data: { code: 'E7', message: 'a "quoted" \\ message with \u0000 in it' },
        };
      case 'report': {
        const lockers = registry.lockers.map(({ id }) => ({ id, door: 'closed' as const }));
        return { type: 'UnitStateReported', data: { reason: 'gap', configurationHash: 'x', lockers } };
      }
      default:
        return this.#random.below(2) === 0
          ? { type: 'LockerOpened', locker, data: { cause: 'service' } }
          : { type: 'LockerClosed', locker, data: {} };
    }
  }

  #append(
    state: UnitState,
    aggregate: Aggregate,
    drafts: readonly EventDraft[],
    actor: string,
    commandId = this.#uuid(),
    finish: (event: CloudEvent, index: number) => CloudEvent = (event) => event,
  ): Append[] {
    if (drafts.length === 0) return [];
    const context = { unit: state.name, source: '/lockfleet/tests', time: toInstant(this.nowMs), actor, commandId };
    const events = envelop(drafts, context, () => this.#uuid()).map(finish);
    const expectedSequence = state.sequences[aggregate];
    this.#sequence += 1;
    this.#states.set(state.name, evolveUnit(state, { aggregate, sequence: this.#sequence, events }));
    return [{ unit: state.name, aggregate, expectedSequence, commandId, events }];
  }

  #registration(name: string): EventDraft {
    const lockers = Array.from({ length: this.#lockers }, (_, index) => ({
      // Ids that look like numbers, too: JavaScript sorts them before all others.
      id: index % 3 === 0 ? String(index + 1) : `L${index + 1}`,
      size: LOCKER_SIZES[index % LOCKER_SIZES.length] ?? 'M',
    }));
    const data = {
      name,
      displayName: `Unit ${name}`,
      address: '127.0.0.2:7800',
      probe: 'udp' as const,
      delivery: 'push' as const,
      commandChannel: 'http' as const,
      location: this.#location(),
      timeZone: 'Europe/Warsaw',
      tags: ['station'],
      lockers,
      configuration: defaultConfiguration(600),
      keyVersion: 1,
      natsUser: 'U',
    };
    return { type: 'UnitRegistered', data };
  }

  #location() {
    return { lat: 54 + this.#random.next() * 0.2, lon: 18 + this.#random.next() * 0.2 };
  }

  #next(): number {
    this.#ids += 1;
    return this.#ids;
  }

  #uuid(): string {
    const random = Math.floor(this.#random.next() * 2 ** 32)
      .toString(16)
      .padStart(8, '0');
    return `${random}-0000-4000-8000-${this.#next().toString(16).padStart(12, '0')}`;
  }
}

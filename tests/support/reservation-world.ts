/**
 * The platform's part in reservations, on a real NATS and with simulated units: decisions, reactor, settlement and the sync of
 * reservation lists. The test moves the clock, fetches the logs of units, and stands between the platform and a unit.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { systemClock } from '../../device-sim/environment/clock.ts';
import { confirmReservation, holdLocker } from '../../domain/booking/customer-decisions.ts';
import { findReservation, type Reservation } from '../../domain/booking/reservation.ts';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import type { EventDraft } from '../../domain/events/drafts.ts';
import { newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import type { CommandAnswer, UnsentCommand } from '../../domain/unit-protocol/commands.ts';
import type { SyncReservations } from '../../domain/unit-protocol/reservation-list.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { ReservationSecrets } from '../../platform/credentials/reservation-secrets.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { ParkedWorkStore } from '../../platform/parked-work/parked-work-store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { UnitLogClient } from '../../platform/unit-log/unit-log-client.ts';
import { UnitLogRecorder } from '../../platform/unit-log/unit-log-recorder.ts';
import { UnitCommandClient } from '../../platform/units/unit-command-client.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { fetchUnitLog } from '../../server/workers/fetch/fetch-unit-log.ts';
import { runReactor } from '../../server/workers/reactor/reactor.ts';
import { type LogPlace, ReservationSync } from '../../server/workers/reactor/reservation-sync.ts';
import { SettlementWorker } from '../../server/workers/settlement/settlement-worker.ts';
import { unlimitedBudgets } from './budgets.ts';
import { Client } from './client.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from './device-sim.ts';
import { eventually } from './eventually.ts';
import { testPlatform } from './nats.ts';
import { freshPostgres } from './projections.ts';
import { appendRegistration, type RegistrationOverrides } from './registration.ts';
import { MINUTE_MS } from './scene.ts';
import { silentLog } from './silent-log.ts';

const newId = () => Bun.randomUUIDv7();
const SOURCE = { actor: 'ops:tests', source: '/lockfleet/tests' };

export interface SentPage {
  readonly unit: string;
  readonly page: SyncReservations;
  /** Bytes of the signed page. */
  readonly bytes: number;
}

export type Send = () => Promise<CommandAnswer>;

/** Stands between a server and a unit: gets each page, and sends it on or does not. */
export type Interceptor = (page: SyncReservations, send: Send) => Promise<CommandAnswer>;

/** One server: its cached states, and its sync of reservation lists. */
export interface SyncServer {
  readonly decider: UnitDecider;
  readonly sync: ReservationSync;
}

export interface Booking {
  readonly id: string;
  readonly locker: string;
  /** Minutes after the start of the test. */
  readonly fromMin: number;
  readonly untilMin: number;
}

export class ReservationWorld {
  readonly #field: FieldPlatform;
  readonly #fleet: TestFleet;
  readonly #postgres: Postgres;
  readonly #secrets: ReservationSecrets;
  readonly #ending = new AbortController();
  readonly #running: Promise<unknown>[] = [];
  /** How far the clock of the test is ahead of that of the machine. */
  readonly #ahead: { ms: number };
  readonly store: NatsEventStore;
  /** The server whose reactor and settlement run. */
  readonly server: SyncServer;
  /** Every page that a unit has answered, in the order of the answers. */
  readonly sent: SentPage[] = [];
  /** What stands between the server that runs and a unit. */
  readonly intercepted = new Map<string, Interceptor>();
  /** What units name as the end of their log. A unit that is not here has named none. */
  readonly reportedPlaces = new Map<string, LogPlace>();

  #taken = 0;

  private constructor(parts: {
    readonly field: FieldPlatform;
    readonly fleet: TestFleet;
    readonly postgres: Postgres;
    readonly secrets: ReservationSecrets;
    readonly ahead: { ms: number };
  }) {
    this.#field = parts.field;
    this.#fleet = parts.fleet;
    this.#postgres = parts.postgres;
    this.#secrets = parts.secrets;
    this.#ahead = parts.ahead;
    this.store = new NatsEventStore(parts.field.nats, newId, () => performance.now());
    this.server = this.newServer((unit) => this.intercepted.get(unit));
    this.#run();
  }

  static async start(options: { readonly units: number; readonly lockers: number }): Promise<ReservationWorld> {
    const field = await startFieldPlatform();
    const ahead = { ms: 0 };
    const clock = systemClock(() => Date.now() + ahead.ms);
    const fleet = await startTestFleet(field, { ...options, clock });
    await eventually(() => fleet.readiness().connected === options.units);
    const { keys } = await testPlatform();
    const secrets = new ReservationSecrets(keys.fleetKey, field.signer);
    return new ReservationWorld({ field, fleet, secrets, ahead, postgres: await freshPostgres() });
  }

  readonly now = (): number => Date.now() + this.#ahead.ms;

  /** Moves the clock of the platform and of the units. */
  advance(minutes: number): void {
    this.#ahead.ms += minutes * MINUTE_MS;
  }

  get units(): readonly EmulatedUnit[] {
    return [...this.#fleet.units.values()];
  }

  /** A unit that no other test of the world uses. */
  nextUnit(): EmulatedUnit {
    const unit = this.units[this.#taken];
    this.#taken += 1;
    if (unit === undefined) throw new Error('there are too few units');
    return unit;
  }

  /** A server beside the one that runs. It follows the store, and its reactor does not run. */
  newServer(interceptorOf: (unit: string) => Interceptor | undefined): SyncServer {
    const decider = new UnitDecider({
      store: this.store,
      loadSnapshot: async (name) => ({ state: newUnitState(name), completeTo: 0 }),
      newId,
      clock: this.now,
      random: Math.random,
      sleep: (ms) => sleep(ms),
      log: silentLog,
    });
    this.#running.push(decider.followStore(this.#ending.signal));
    const sync = new ReservationSync({
      decider,
      commands: {
        send: (unit, command, options) => {
          const send = () => this.#send(unit, command, options);
          return interceptorOf(unit.name)?.(pageOf(command), send) ?? send();
        },
      },
      secrets: this.#secrets,
      reportedPlace: async (unit) => this.reportedPlaces.get(unit),
      newId,
      clock: this.now,
      log: silentLog,
    });
    return { decider, sync };
  }

  /** Registers a simulated unit with its lockers, has it online, and records its log. */
  async register(unit: EmulatedUnit, changes: RegistrationOverrides = {}): Promise<void> {
    await this.registerUnrecorded(unit, changes);
    await this.recordLog(unit.name);
  }

  async registerUnrecorded(unit: EmulatedUnit, changes: RegistrationOverrides = {}): Promise<void> {
    const address = this.#field.registered.get(unit.name) ?? '';
    const lockers = unit.model.lockers.map(({ id, size }) => ({ id, size }));
    await this.registerNamed(unit.name, { address, lockers, delivery: 'fetch', ...changes });
  }

  async registerNamed(name: string, changes: RegistrationOverrides = {}): Promise<void> {
    await appendRegistration(this.server.decider, name, changes);
    await this.goOnline(name);
  }

  goOnline(unit: string): Promise<unknown> {
    return this.append(unit, 'connectivity', [{ type: 'UnitWentOnline', data: { evidence: 'ping' } }]);
  }

  goOffline(unit: string): Promise<unknown> {
    const data = { lastProofAt: toInstant(this.now()), missedPings: 3 };
    return this.append(unit, 'connectivity', [{ type: 'UnitWentOffline', data }]);
  }

  append(unit: string, aggregate: Aggregate, drafts: readonly EventDraft[]): Promise<unknown> {
    return this.server.decider.decide(unit, aggregate, { commandId: newId(), ...SOURCE }, () => drafts);
  }

  /** Takes a decision on the bookings of a unit. @throws Refusal */
  decide(unit: string, decision: (state: UnitState, nowMs: number) => readonly EventDraft[]): Promise<unknown> {
    const meta = { commandId: newId(), ...SOURCE };
    return this.server.decider.decide(unit, 'booking', meta, (state) => decision(state, this.now()));
  }

  /** Holds a locker. Times count from now. */
  async hold(unit: string, { id, locker, fromMin, untilMin }: Booking): Promise<void> {
    const at = (minutes: number) => toInstant(this.now() + minutes * MINUTE_MS);
    const command = { reservationId: id, customer: id, requested: { locker }, from: at(fromMin), until: at(untilMin) };
    await this.decide(unit, (state, nowMs) => holdLocker(state, { ...command, commandId: newId(), nowMs }));
  }

  /** Holds and confirms a locker. @returns the token of the reservation */
  async book(unit: string, booking: Booking): Promise<string> {
    await this.hold(unit, booking);
    const command = { reservationId: booking.id, customer: booking.id, paymentReference: 'paid', commandId: newId() };
    const accessCodeOf = (id: string, accessCodeDraw: number) => this.#secrets.accessCode({ id, accessCodeDraw });
    await this.decide(unit, (state, nowMs) => confirmReservation(state, { ...command, nowMs, accessCodeOf }));
    const state = await this.state(unit);
    const reservation = findReservation(state.booking, booking.id);
    if (reservation === undefined) throw new Error(`${booking.id} was not confirmed`);
    const bookingSequence = state.sequences.booking;
    return (await this.#secrets.of({ ...reservation, unit, bookingSequence })).offlineToken;
  }

  state(unit: string): Promise<UnitState> {
    return this.server.decider.getLatestState(unit);
  }

  async reservation(unit: string, id: string): Promise<Reservation | undefined> {
    return findReservation((await this.state(unit)).booking, id);
  }

  /** Resolves when the unit has accepted the reservations. */
  async accepted(unit: string, ...ids: readonly string[]): Promise<void> {
    await eventually(async () => {
      const { booking } = await this.state(unit);
      return ids.every((id) => findReservation(booking, id)?.unitAck === 'accepted');
    });
  }

  /** Every recorded event of a unit, in the order of the store. */
  async events(unit: string): Promise<readonly CloudEvent[]> {
    return (await this.store.tail(unit, 0)).flatMap((message) => message.events());
  }

  /** Fetches the log of a unit, and records it. */
  async recordLog(unit: string): Promise<void> {
    const { decider } = this.server;
    const refuse = () => Promise.reject(new Error('the unit has sent an event that is refused'));
    await fetchUnitLog(unit, {
      decider,
      recorder: new UnitLogRecorder({
        decider,
        deadLetters: { insertRejectedEvents: refuse, insertUnreadableBatch: refuse },
        clockOffsets: { get: () => undefined },
        newEpochs: unlimitedBudgets(),
        newId,
        log: silentLog,
      }),
      unitLogClient: new UnitLogClient({ nats: this.#field.nats, signer: this.#field.signer, unitNowMs: this.now }),
      unitInbox: { listPendingBatches: () => Promise.resolve([]) },
      events: unlimitedBudgets(),
      clock: this.now,
    });
  }

  /** A customer shows a token at the screen of a unit. */
  redeem(unit: string, token: string) {
    return new Client(this.#fleet.controlUrl).post(`/units/${unit}/redeem`, { token });
  }

  /** A customer at a door. */
  door(unit: string, locker: string, action: 'open' | 'close' | 'give-back') {
    return new Client(this.#fleet.controlUrl).post(`/units/${unit}/lockers/${locker}/${action}`);
  }

  async parkedWork(): Promise<readonly object[]> {
    return this.#postgres.sql<object[]>`select queue, unit, job, reason from platform.parked_work`;
  }

  /** Pages that a unit has answered. */
  pagesTo(unit: string): SyncReservations[] {
    return this.sent.filter((each) => each.unit === unit).map(({ page }) => page);
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await Promise.all(this.#running);
    await this.#fleet.stop();
    await this.#field.stop();
    await this.#postgres.close();
  }

  #run(): void {
    const { signal } = this.#ending;
    const { decider, sync } = this.server;
    const pause = (ms: number) => sleep(ms, undefined, { signal }).catch(() => undefined);
    const shared = { decider, newId, signal, sleep: pause, log: silentLog };
    const settlement = new SettlementWorker({
      ...shared,
      readDue: async () => [],
      owns: () => true,
      clock: this.now,
      monotonic: () => performance.now(),
    });
    const parkedWork = new ParkedWorkStore(this.#postgres.sql);
    this.#running.push(
      settlement.run(),
      runReactor({ ...shared, nats: this.#field.nats, settlement, sync, parkedWork }),
    );
  }

  async #send(...[unit, command, options]: Parameters<UnitCommandClient['send']>): Promise<CommandAnswer> {
    const { nats, signer } = this.#field;
    const signed = await signer.command(unit.name, { ...command, expiresAt: toInstant(this.now()) }, this.now());
    const client = new UnitCommandClient({ nats, signer, unitNowMs: this.now, onAnswer: () => undefined });
    const answer = await client.send(unit, command, options);
    this.sent.push({ unit: unit.name, page: pageOf(command), bytes: signed.length });
    return answer;
  }
}

function pageOf(command: UnsentCommand): SyncReservations {
  if ('syncReservations' in command && command.syncReservations !== undefined) return command.syncReservations;
  throw new Error('the sync sends pages alone');
}

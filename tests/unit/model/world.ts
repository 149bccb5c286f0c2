/**
 * A bad day at one unit, with time injected: two servers on one event store, a reference unit behind a bad connection, and the belongings in
 * its lockers, which neither of them can see. Each method is one thing that happens. `violations` collects what must never happen.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { executeCommand } from '../../../device-sim/unit/commands.ts';
import {
  closeDoor,
  giveBackLocker,
  openLocker,
  redeemReservation,
  rentAtScreen,
} from '../../../device-sim/unit/customer-actions.ts';
import {
  createUnit,
  markAcknowledged,
  markRecorded,
  rebootUnit,
  wipeUnit,
} from '../../../device-sim/unit/lifecycle.ts';
import type { Decision, DecisionContext, UnitModel } from '../../../device-sim/unit/model.ts';
import { findReservation, type Reservation } from '../../../domain/booking/reservation.ts';
import { nextSettlementAtMs, settleBookings } from '../../../domain/booking/settlement.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { markUnitOffline, markUnitOnline } from '../../../domain/connectivity/connectivity.ts';
import { recordedSeq } from '../../../domain/device/epochs.ts';
import { isClockWrong } from '../../../domain/device/unit-clock.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { newUnitState, type UnitState } from '../../../domain/unit/unit.ts';
import type { BatchEvent } from '../../../domain/unit-protocol/batch.ts';
import type { CommandAnswer, OfflineTokenClaims, UnsentCommand } from '../../../domain/unit-protocol/commands.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../../platform/event-store/memory.ts';
import { parseBatch } from '../../../platform/unit-log/batch.ts';
import { UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import { type UnitCommandClient, UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { ReservationService } from '../../../server/api/reservations/reservation-service.ts';
import { ReservationSync } from '../../../server/workers/reactor/reservation-sync.ts';
import { unlimitedBudgets } from '../../support/budgets.ts';
import type { SeededRandom } from '../../support/random.ts';
import { registration } from '../../support/registration.ts';
import { silentLog } from '../../support/silent-log.ts';

export const UNIT = 'PL-1000';
export const START_MS = Date.parse('2026-06-01T08:00:00.000Z');
export const MINUTE_MS = 60_000;
const MAX_BATCH_EVENTS = 20;

/** One server: it caches units and follows the store, so its knowledge lags behind that of the other one. */
interface Server {
  readonly decider: UnitDecider;
  readonly service: ReservationService;
  readonly sync: ReservationSync;
  readonly recorder: UnitLogRecorder;
}

/** A page of the list that travels to the unit. */
type Flight = Readonly<Record<'deliver' | 'lose', () => void>>;

export class World {
  nowMs = START_MS;
  readonly violations: string[] = [];
  readonly random: SeededRandom;
  readonly lockers: readonly { readonly id: string; readonly size: 'S' | 'M' }[];
  /** Whose belongings are in each locker. */
  readonly belongings = new Map<string, string>();
  /** Lockers whose unit was wiped while belongings were in them: it cannot know of these any more. */
  readonly exposed = new Set<string>();
  /** Owners of belongings that the unit forgot when it was wiped, and reservations whose use it had not reported by then. */
  readonly lostByWipe = new Set<string>();
  readonly jammed = new Set<string>();
  isConnected = true;
  clockOffsetMs = 0;
  unit: UnitModel;
  readonly #store = new MemoryEventStore(() => this.nowMs);
  readonly #servers: readonly [Server, Server];
  readonly #stop = new AbortController();
  readonly #following: Promise<void>[] = [];
  readonly #log: BatchEvent[] = [];
  readonly #flights: Flight[] = [];
  readonly #syncs = new Set<Promise<void>>();
  #needsSync = true;
  #settledAtMs = Number.NEGATIVE_INFINITY;
  #ids = 0;

  constructor(random: SeededRandom) {
    this.random = random;
    const ids = ['A', 'B', 'C', 'D'].slice(0, 1 + random.below(4));
    this.lockers = ids.map((id) => ({ id, size: random.below(3) === 0 ? 'M' : 'S' }));
    this.#servers = [this.#newServer(), this.#newServer()];
    const created = createUnit(
      { name: UNIT, lockers: this.lockers, configuration: defaultConfiguration(600) },
      this.#context(),
    );
    this.unit = created.unit;
    this.#log.push(...created.entries);
  }

  async start(): Promise<void> {
    for (const { decider } of this.#servers) this.#following.push(decider.followStore(this.#stop.signal));
    const meta = { commandId: 'register', actor: 'ops:tests', source: '/tests' };
    await this.#servers[0].decider.decide(UNIT, 'registry', meta, () => [
      { type: 'UnitRegistered', data: registration(UNIT, { lockers: [...this.lockers] }) },
    ]);
    await this.#noteConnectivity();
  }

  async stop(): Promise<void> {
    for (const flight of this.#flights.splice(0)) flight.lose();
    await Promise.all(this.#syncs);
    this.#stop.abort();
    await Promise.all(this.#following);
  }

  newId(): string {
    this.#ids += 1;
    return `018f0000-0000-7000-8000-${String(this.#ids).padStart(12, '0')}`;
  }

  get server(): Server {
    return this.random.pick(this.#servers);
  }

  state(): Promise<UnitState> {
    return this.#servers[0].decider.getLatestState(UNIT);
  }

  async reservation(id: string): Promise<Reservation | undefined> {
    return findReservation((await this.state()).booking, id);
  }

  /** A request of a customer's app; `undefined` when it is refused or the platform cannot help now. */
  async app<T>(request: (service: ReservationService) => Promise<T>): Promise<T | undefined> {
    try {
      return await request(this.server.service);
    } catch (error) {
      // Refusals and problems are answers. Anything else is a fault of the code.
      if (error instanceof Error && (error.name === 'Refusal' || error.name === 'Problem')) return undefined;
      throw error;
    } finally {
      this.#noteBookingCommit();
    }
  }

  /** The QR code of a reservation as the app shows it now. */
  async tokenOf(id: string): Promise<OfflineTokenClaims | undefined> {
    const { booking, sequences } = await this.state();
    const reservation = findReservation(booking, id);
    if (reservation?.status !== 'confirmed' && reservation?.status !== 'active') return undefined;
    const { locker, from, until } = reservation;
    return { aud: UNIT, sub: id, locker, from, until, asOf: sequences.booking };
  }

  /** A customer shows a QR code. @returns the locker that opened */
  redeem(claims: OfflineTokenClaims): string | undefined {
    const answer = this.#act((unit, context) => redeemReservation(unit, claims, context));
    return answer.done ? answer.locker : undefined;
  }

  /** A customer rents at the screen. @returns the locker that opened */
  walkUp(minutes: number): string | undefined {
    const answer = this.#act((unit, context) => rentAtScreen(unit, { minutes }, context));
    return answer.done ? answer.locker : undefined;
  }

  openAtScreen(locker: string): boolean {
    return this.#act((unit, context) => openLocker(unit, locker, context)).done;
  }

  closeDoor(locker: string): void {
    this.#act((unit, context) => closeDoor(unit, locker, context));
  }

  giveBack(locker: string): boolean {
    return this.#act((unit, context) => giveBackLocker(unit, locker, context)).done;
  }

  /** Puts belongings into a locker whose door has opened for a customer. */
  putIn(locker: string, customer: string): void {
    const other = this.belongings.get(locker);
    if (other !== undefined && other !== customer && !this.exposed.has(locker))
      this.violations.push(`locker ${locker} opened for ${customer} and holds the belongings of ${other}`);
    this.belongings.set(locker, customer);
    this.exposed.delete(locker);
  }

  takeOut(locker: string): void {
    this.belongings.delete(locker);
    this.exposed.delete(locker);
  }

  /** The locker in which the unit has a rental of a reservation. */
  rentedLocker(reservationId: string): string | undefined {
    return this.unit.lockers.find(({ rental }) => rental?.reservationId === reservationId)?.id;
  }

  reboot(): void {
    this.#act((unit, context) => rebootUnit(unit, context));
  }

  wipe(): void {
    for (const [locker, owner] of this.belongings) {
      this.exposed.add(locker);
      this.lostByWipe.add(owner);
    }
    for (const { data } of this.#log.splice(0)) this.lostByWipe.add(String(data.reservationId));
    this.#act((unit, context) => wipeUnit(unit, defaultConfiguration(600), context));
    this.#needsSync = true;
  }

  async connect(isConnected: boolean): Promise<void> {
    if (this.isConnected === isConnected) return;
    this.isConnected = isConnected;
    if (!isConnected) for (const flight of this.#flights.splice(0)) flight.lose();
    await this.#noteConnectivity();
    this.#needsSync = true;
  }

  /** The unit pushes a batch of its log: perhaps twice, and perhaps without its first events. The platform settles what it recorded. */
  async push(): Promise<void> {
    if (!this.isConnected) return;
    const { epoch } = this.unit.log;
    const events = this.#log.slice(0, 1 + this.random.below(MAX_BATCH_EVENTS));
    if (events.length === 0) return;
    const sent = this.random.below(8) === 0 ? events.slice(1) : events;
    if (sent.length === 0) return;
    const batch = () => parseBatch(UNIT, new TextEncoder().encode(JSON.stringify({ unit: UNIT, epoch, events: sent })));
    const copies = this.random.below(6) === 0 ? 2 : 1;
    await Promise.all(Array.from({ length: copies }, () => this.server.recorder.recordBatch(batch(), this.nowMs)));
    const seq = recordedSeq((await this.state()).device, epoch);
    this.unit = markRecorded(markAcknowledged(this.unit, epoch, seq).unit, { epoch, seq }).unit;
    while ((this.#log[0]?.seq ?? Number.POSITIVE_INFINITY) <= seq) this.#log.shift();
    await this.settle();
  }

  /** When the platform settles next by time alone. */
  async dueMs(): Promise<number> {
    return nextSettlementAtMs(await this.state(), this.#settledAtMs) ?? Number.POSITIVE_INFINITY;
  }

  /** Settles because time alone made it due: until a millisecond before, it must have had nothing to do. */
  async settleDue(dueMs: number): Promise<void> {
    const early = Number.isFinite(this.#settledAtMs) ? settleBookings(await this.state(), dueMs - 1) : [];
    if (early.length > 0) this.violations.push(`due before ${toInstant(dueMs)}: ${early.map(({ type }) => type)}`);
    await this.settle();
  }

  async settle(): Promise<void> {
    const meta = { commandId: this.newId(), actor: 'platform:reactor', source: '/tests' };
    const { nowMs } = this;
    const { appended } = await this.server.decider.decideInChunks(UNIT, 'booking', meta, (state) =>
      settleBookings(state, nowMs),
    );
    this.#settledAtMs = nowMs;
    if (appended) this.#needsSync = true;
  }

  /** Starts a sync when something changed. Its pages are on their way until they are delivered or lost. */
  beginSync(): void {
    if (!this.#needsSync) return;
    this.#needsSync = false;
    const sync = this.server.sync.syncUnit(UNIT).then((result) => {
      this.#syncs.delete(sync);
      this.#settledAtMs = Number.NEGATIVE_INFINITY;
      if (result !== 'done') this.#needsSync = true;
    });
    this.#syncs.add(sync);
  }

  /** Delivers any of the pages that are on their way, in any order. */
  async deliverPage(): Promise<void> {
    await nextTurn();
    const [flight] = this.#flights.splice(this.random.below(this.#flights.length), 1);
    if (flight === undefined) return;
    if (this.random.below(10) === 0) flight.lose();
    else flight.deliver();
    await nextTurn();
  }

  /** Completes everything that is under way, over a good connection. */
  async drain(): Promise<void> {
    for (let round = 0; round < 200; round += 1) {
      await this.push();
      this.beginSync();
      await nextTurn();
      for (const flight of this.#flights.splice(0)) flight.deliver();
      await nextTurn();
      if (this.#log.length === 0 && !this.#needsSync && this.#syncs.size === 0) return;
      this.nowMs += 1_000;
    }
    this.violations.push('the unit and the platform do not come to rest');
  }

  /** What the reactor does after a commit of bookings: the unit may be due again, and must hear of the change. */
  #noteBookingCommit(): void {
    this.#settledAtMs = Number.NEGATIVE_INFINITY;
    this.#needsSync = true;
  }

  #act<A>(decide: (unit: UnitModel, context: DecisionContext) => Decision<A>): A {
    const decided = decide(this.unit, this.#context());
    this.unit = decided.unit;
    this.#log.push(...decided.entries);
    return decided.answer;
  }

  #context(): DecisionContext {
    return {
      nowMs: this.nowMs + this.clockOffsetMs,
      newId: () => this.newId(),
      isOffline: !this.isConnected,
      jammedLockers: this.jammed,
      doesTerminalDecline: false,
      configurationFault: 'well',
    };
  }

  #newServer(): Server {
    const clock = () => this.nowMs;
    const newId = () => this.newId();
    const decider = new UnitDecider({
      store: this.#store,
      loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
      newId,
      clock,
      random: () => this.random.next(),
      sleep: async () => {
        await nextTurn();
      },
      log: silentLog,
    });
    const commands = { send: this.#send.bind(this) } as unknown as UnitCommandClient;
    const secrets = { accessCode: ({ id }: { id: string }) => id.slice(-6), of: async () => ({}) } as never;
    const clockOffsets = { get: () => (isClockWrong(this.clockOffsetMs) ? this.clockOffsetMs : undefined) };
    const deadLetters = {
      insertRejectedEvents: () => Promise.reject(new Error('the unit sent an invalid event')),
      insertUnreadableBatch: () => Promise.reject(new Error('the unit sent an unreadable batch')),
    };
    return {
      decider,
      service: new ReservationService({ decider, commands, secrets, newId, clock }),
      sync: new ReservationSync({
        decider,
        commands,
        secrets,
        reportedPlace: async () => undefined,
        newId,
        clock,
        log: silentLog,
      }),
      recorder: new UnitLogRecorder({
        decider,
        deadLetters: deadLetters as never,
        clockOffsets,
        newEpochs: unlimitedBudgets(),
        newId,
        log: silentLog,
      }),
    };
  }

  /** The connection to the unit: doors open at once or not at all, pages take their time. Answers can be lost after the execution. */
  async #send(_: unknown, command: UnsentCommand, { ttlMs }: { readonly ttlMs: number }): Promise<CommandAnswer> {
    const sentAtMs = this.nowMs;
    const execute = () => {
      const expiresAt = toInstant(sentAtMs + this.clockOffsetMs + ttlMs);
      return this.#act((unit, context) => executeCommand(unit, { ...command, expiresAt }, context));
    };
    if (!this.isConnected) throw new UnitUnreachableError('the unit is cut off');
    if ('syncReservations' in command) {
      const { promise, resolve, reject } = Promise.withResolvers<CommandAnswer>();
      const lose = () => reject(new UnitUnreachableError('no answer'));
      this.#flights.push({ lose, deliver: () => resolve(execute()) });
      return promise;
    }
    const fate = this.random.below(12);
    if (fate === 0) throw new UnitUnreachableError('the request was lost');
    const answer = execute();
    if (fate === 1) throw new UnitUnreachableError('the answer was lost');
    return answer;
  }

  async #noteConnectivity(): Promise<void> {
    const meta = { commandId: this.newId(), actor: 'platform:pinger', source: '/tests' };
    const at = toInstant(this.nowMs);
    await this.server.decider.decide(UNIT, 'connectivity', meta, ({ connectivity }) =>
      this.isConnected ? markUnitOnline(connectivity, 'ping', this.nowMs) : markUnitOffline(connectivity, 3, at),
    );
  }

  /** All events about a reservation, in order. */
  async historyOf(reservationId: string): Promise<CloudEvent[]> {
    const messages = await this.#store.tail(UNIT, 0);
    return messages
      .flatMap((message) => message.events())
      .filter(({ data }) => (data as { readonly reservationId?: string }).reservationId === reservationId);
  }
}

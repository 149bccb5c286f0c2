/** A running fleet: its store, its units with their connections, its customers, its registration and its control API. */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { createLog, type Log } from '../../platform/observability/log.ts';
import { type ControlDependencies, type Readiness, startControlApi } from '../control/control-api.ts';
import { Customers } from '../customers/customers.ts';
import { EmulatedUnit, type UnitDependencies } from '../emulation/emulated-unit.ts';
import { FleetMetrics } from '../emulation/fleet-metrics.ts';
import { type Clock, Timers } from '../environment/clock.ts';
import { Random } from '../environment/random.ts';
import { NO_FAULTS } from '../faults/faults.ts';
import { planAddresses } from '../plan/addresses.ts';
import { type PlannedUnit, planFleet } from '../plan/fleet-plan.ts';
import { FleetRegistration, type PlatformApi, type UnitChannels } from '../registration/fleet-registration.ts';
import type { Visit } from '../scenarios/scenarios.ts';
import { FleetStore, type StoredUnit } from '../store/fleet-store.ts';
import type { StoreError } from '../store/group-commit.ts';
import { EventPusher } from '../transports/event-pusher.ts';
import { Gate } from '../transports/gate.ts';
import { listenForHttp } from '../transports/http-listener.ts';
import { NatsTransport } from '../transports/nats-transport.ts';
import { UnitRequestHandler } from '../transports/request-handler.ts';
import { listenForDatagrams } from '../transports/udp-listener.ts';
import { createUnit } from '../unit/lifecycle.ts';
import { DEFAULT_MAX_UNRECORDED_EVENTS, MIN_UNRECORDED_EVENTS } from '../unit/log-bound.ts';
import type { DecisionContext } from '../unit/model.ts';

/** Units that connect to NATS at the same moment. */
const MAX_UNITS_CONNECTING = 64;
/** What one answer of `/readyz` says about units that cannot be registered. */
const MAX_PROBLEMS_SHOWN = 5;
const REPORT_INTERVAL_MS = 5_000;

export const DEFAULT_CHANNELS: UnitChannels = { probe: 'http', delivery: 'push', commandChannel: 'http' };

export interface FleetOptions {
  readonly units: number;
  readonly lockers: number;
  readonly seed: number;
  /** The SQLite file of the fleet. */
  readonly storePath: string;
  readonly platform: PlatformApi;
  /** What units run before anybody configured them. */
  readonly factoryConfiguration: VersionedConfiguration;
  /** Loopback port of the control API; 0 takes a free one, undefined: no control API. */
  readonly controlPort: number | undefined;
  /** Common port of the units; 0 takes a free one. A store that has units keeps theirs. */
  readonly unitPort: number;
  /** @default HTTP for pings and commands, NATS for events */
  readonly channels?: UnitChannels;
  /** How often units prove that they are there. @default HEARTBEAT_INTERVAL_MS */
  readonly heartbeatIntervalMs?: number;
  /** Who walks up on their own. Undefined: nobody. */
  readonly customers?: { readonly walkUpsPerMinute: number; readonly visit: Visit };
  /** Most events that each unit keeps while nobody records them. @default 100,000 */
  readonly maxUnrecordedEvents?: number;
  readonly clock: Clock;
  /** A new UUIDv7 at every call. */
  readonly newId: () => string;
  readonly log: Log;
  /** The store cannot write: the process has to end. */
  readonly onStoreFailure: (error: StoreError) => void;
}

interface Member {
  readonly plan: PlannedUnit;
  readonly unit: EmulatedUnit;
  readonly answers: UnitRequestHandler;
  readonly link: NatsTransport;
}

export interface Fleet {
  readonly units: ReadonlyMap<string, EmulatedUnit>;
  /** URL of the control API, if it has one. */
  readonly controlUrl: string | undefined;
  readonly metrics: FleetMetrics;
  readonly customers: Customers;
  readiness(): Readiness;
  /** Closes every connection, then the store, in which everything that was answered stands. */
  stop(): Promise<void>;
}

/**
 * Starts a fleet. Returns when its units listen and the control API answers; registration and connections go on behind,
 * see `readiness`.
 * @throws StoreError when another simulator has the store; ListenError when an address is taken
 */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const {
    clock,
    log,
    newId,
    factoryConfiguration: factory,
    seed,
    maxUnrecordedEvents = DEFAULT_MAX_UNRECORDED_EVENTS,
  } = options;
  if (maxUnrecordedEvents < MIN_UNRECORDED_EVENTS) {
    throw new RangeError(`a unit keeps at least ${MIN_UNRECORDED_EVENTS} events, not ${maxUnrecordedEvents}`);
  }
  const metrics = new FleetMetrics();
  const store = FleetStore.open(options.storePath, options.onStoreFailure);
  const timers = new Timers(clock);
  const listeners: { close(): void }[] = [];
  try {
    const plans = planFleet(options);
    const stored = loadOrCreate(store, plans, options);
    const deps: UnitDependencies = { store, clock, newId, metrics, factoryConfiguration: factory, maxUnrecordedEvents };
    const connect = connector(options, timers, metrics);
    const members = plans.flatMap((plan): Member[] => {
      const found = stored.get(plan.name);
      return found === undefined ? [] : [{ plan, ...connect(new EmulatedUnit(found.stored, deps)) }];
    });
    for (const { unit } of members) metrics.countUnrecordedAtStart(unit.model);
    // The units have just been switched on: those that ran before say so.
    await Promise.all(members.map(({ unit }) => (stored.get(unit.name)?.isNew === true ? undefined : unit.reboot())));
    const http = { timers, random: new Random(seed, 'http'), log };
    const listening = members.map(async ({ unit, answers }) => {
      listeners.push(await listenForHttp(unit, answers, http));
    });
    for (const result of await Promise.allSettled(listening)) {
      if (result.status === 'rejected') throw result.reason;
    }
    const isProbe = options.channels?.probe === 'udp';
    listeners.push(await listenForDatagrams(members, { timers, random: new Random(seed, 'udp'), log, isProbe }));
    return run(options, { store, timers, metrics, members, listeners });
  } catch (error) {
    timers.stop();
    for (const listener of listeners) listener.close();
    store.close();
    throw error;
  }
}

/** The units of the plan as they are stored; those that are not are made, with the first entry of their log. */
function loadOrCreate(
  store: FleetStore,
  plans: readonly PlannedUnit[],
  { clock, newId, factoryConfiguration: factory, unitPort }: FleetOptions,
): Map<string, { readonly stored: StoredUnit; readonly isNew: boolean }> {
  const known = store.loadUnits();
  const knownPort = [...known.values()][0]?.address.split(':')[1];
  const missing = plans.map((plan, index) => ({ plan, index })).filter(({ plan }) => !known.has(plan.name));
  const addresses = missing.length === 0 ? undefined : planAddresses(Number(knownPort ?? unitPort), known.size > 0);
  const around: DecisionContext = {
    nowMs: clock.nowMs(),
    newId,
    isOffline: false,
    jammedLockers: new Set<string>(),
    doesTerminalDecline: false,
    configurationFault: 'well',
  };
  const made = store.createUnits(
    missing.map(({ plan, index }) => {
      const { unit: model, entries } = createUnit({ ...plan, configuration: factory }, around);
      const address = addresses?.address(index) ?? '';
      return { address, credentials: undefined, faults: NO_FAULTS, model, entries };
    }),
  );
  const found = new Map<string, { readonly stored: StoredUnit; readonly isNew: boolean }>();
  for (const [name, stored] of known) found.set(name, { stored, isNew: false });
  for (const stored of made) found.set(stored.model.name, { stored, isNew: true });
  return found;
}

/** Gives a unit its voices. */
function connector(options: FleetOptions, timers: Timers, metrics: FleetMetrics) {
  const { seed, log, clock, channels = DEFAULT_CHANNELS, heartbeatIntervalMs } = options;
  const gate = new Gate(MAX_UNITS_CONNECTING);
  const random = new Random(seed, 'nats');
  const connectionLog = createLog(() => undefined, clock.nowMs);
  const takesRequests = channels.commandChannel === 'nats' || channels.probe === 'nats';
  const pace = heartbeatIntervalMs === undefined ? {} : { heartbeatIntervalMs };
  return (unit: EmulatedUnit) => {
    const answers = new UnitRequestHandler(unit, metrics);
    const link = new NatsTransport(unit, answers, {
      timers,
      random,
      gate,
      log,
      connectionLog,
      servesRequests: takesRequests,
      ...pace,
    });
    if (channels.delivery === 'push') {
      const onFailure = (name: string, reason: string) => log.debug('a push failed', { unit: name, reason });
      new EventPusher(unit, link, { timers, random, metrics, onFailure }).start();
    }
    return { unit, answers, link };
  };
}

function run(
  options: FleetOptions,
  parts: {
    readonly store: FleetStore;
    readonly timers: Timers;
    readonly metrics: FleetMetrics;
    readonly members: readonly Member[];
    readonly listeners: readonly { close(): void }[];
  },
): Fleet {
  const { platform, channels = DEFAULT_CHANNELS, log, seed } = options;
  const { store, timers, metrics, members, listeners } = parts;
  const registration = new FleetRegistration({ platform, channels, timers, log });
  const readiness = () => readinessOf(members, registration.problems);
  const controlled: ControlDependencies['units'] = new Map(members.map((member) => [member.unit.name, member]));
  const control =
    options.controlPort === undefined
      ? undefined
      : startControlApi(options.controlPort, { units: controlled, readiness });
  const units = members.map(({ unit }) => unit);
  const visit = options.customers?.visit ?? { rentalMinutes: [15, 15], stepMs: [0, 0], reopenChance: 0 };
  const customers = new Customers(visit, { units, timers, random: new Random(seed, 'customers'), metrics });
  if (options.customers !== undefined) {
    customers.setArrivalRate(options.customers.walkUpsPerMinute, visit);
    customers.start();
  }
  for (const { link } of members) link.start();
  const registering = registration.run(members);
  reportConnections(readiness, timers, log);
  return {
    units: new Map(units.map((unit) => [unit.name, unit])),
    controlUrl: control?.url,
    metrics,
    customers,
    readiness,
    stop: async () => {
      customers.stop();
      timers.stop();
      registration.stop();
      await control?.stop();
      for (const listener of listeners) listener.close();
      await Promise.all([registering, ...members.map(({ link }) => link.stop())]);
      await store.settled();
      store.close();
    },
  };
}

function readinessOf(members: readonly Member[], problems: ReadonlyMap<string, string>): Readiness {
  let registered = 0;
  let connected = 0;
  let pinged = 0;
  let offline = 0;
  let missing = 0;
  for (const { unit, link } of members) {
    if (unit.credentials !== undefined) registered += 1;
    if (link.isConnected) connected += 1;
    if (unit.wasPinged) pinged += 1;
    if (unit.faults.offline) offline += 1;
    else if (!link.isConnected || !unit.wasPinged) missing += 1;
  }
  const units = members.length;
  const shown = [...problems].slice(0, MAX_PROBLEMS_SHOWN).map(([name, why]) => `${name}: ${why}`);
  return {
    ready: registered === units && missing === 0,
    units,
    registered,
    connected,
    pinged,
    offline,
    problems: shown,
  };
}

/** One line when the number of connected units has changed, instead of one from each. */
function reportConnections(readiness: () => Readiness, timers: Timers, log: Log): void {
  let last = '';
  const report = () => {
    const { ready: _, problems: __, ...counts } = readiness();
    const line = JSON.stringify(counts);
    if (line !== last) log.info('fleet', counts);
    last = line;
    timers.after(REPORT_INTERVAL_MS, report);
  };
  timers.after(REPORT_INTERVAL_MS, report);
}

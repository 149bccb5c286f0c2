/** A running fleet: its store, its units with their transports, and their registration at the platform. */

import pLimit from 'p-limit';
import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { createLog, type Log } from '../../platform/observability/log.ts';
import { EmulatedUnit, type UnitDependencies } from '../emulation/emulated-unit.ts';
import { FleetMetrics } from '../emulation/fleet-metrics.ts';
import type { Clock } from '../environment/clock.ts';
import { Random } from '../environment/random.ts';
import { Timers } from '../environment/timers.ts';
import { type PlannedUnit, planFleet } from '../plan/fleet-plan.ts';
import { FleetRegistration } from '../registration/fleet-registration.ts';
import { type PlatformApi, RegistrationRefusedError } from '../registration/platform-api.ts';
import type { UnitChannels } from '../registration/unit-channels.ts';
import { FleetStore } from '../store/fleet-store.ts';
import type { StoreError } from '../store/group-commit.ts';
import { EventPusher } from '../transports/event-pusher.ts';
import { listenForHttp } from '../transports/http-listener.ts';
import { NatsTransport } from '../transports/nats-transport.ts';
import { UnitRequestHandler } from '../transports/request-handler.ts';
import { listenForDatagrams } from '../transports/udp-listener.ts';
import { DEFAULT_MAX_UNRECORDED_EVENTS, MIN_UNRECORDED_EVENTS } from '../unit/log-bound.ts';
import { logReadinessChanges, type Readiness, readinessOf } from './readiness.ts';
import { loadOrCreateUnits } from './stored-units.ts';

/** Most units that connect to NATS at the same moment. */
const MAX_UNITS_CONNECTING = 64;

export const DEFAULT_CHANNELS: UnitChannels = { probe: 'http', delivery: 'push', commandChannel: 'http' };

export interface FleetOptions {
  readonly units: number;
  readonly lockers: number;
  readonly seed: number;
  /** The SQLite file of the fleet. */
  readonly storePath: string;
  readonly platform: PlatformApi;
  /** The configuration of a unit before its first `applyConfiguration`. */
  readonly factoryConfiguration: VersionedConfiguration;
  /** Common port of the units, 0 for a free one. Units that are in the store keep their port. */
  readonly unitPort: number;
  /** @default DEFAULT_CHANNELS */
  readonly channels?: UnitChannels;
  /** @default HEARTBEAT_INTERVAL_MS */
  readonly heartbeatIntervalMs?: number;
  /** Time-out of an import of units. @default that of `FleetRegistration` */
  readonly importTimeoutMs?: number;
  /** Most unrecorded events that each unit keeps. @default DEFAULT_MAX_UNRECORDED_EVENTS */
  readonly maxUnrecordedEvents?: number;
  readonly clock: Clock;
  /** A new UUIDv7 at every call. */
  readonly newId: () => string;
  readonly log: Log;
  /** Called once when the store cannot write. The process must end then. */
  readonly onStoreFailure: (error: StoreError) => void;
  /** Called once when the platform refuses the registration for good: no further unit will be registered. */
  readonly onRegistrationRefused: (error: RegistrationRefusedError) => void;
}

export interface FleetMember {
  readonly plan: PlannedUnit;
  readonly unit: EmulatedUnit;
  readonly requests: UnitRequestHandler;
  readonly transport: NatsTransport;
}

export interface Fleet {
  readonly members: ReadonlyMap<string, FleetMember>;
  readonly units: ReadonlyMap<string, EmulatedUnit>;
  readonly metrics: FleetMetrics;
  readiness(): Readiness;
  /** Closes every connection, then the store. Nothing that a unit has answered is lost. */
  stop(): Promise<void>;
}

/**
 * Starts a fleet. Resolves when its units listen at their addresses; registration and NATS connections continue in the
 * background (see `readiness`).
 * @throws StoreError when another simulator has the store open; ListenError when an address is taken; RangeError when
 *   `maxUnrecordedEvents` is below MIN_UNRECORDED_EVENTS
 */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const { clock, newId, factoryConfiguration, unitPort } = options;
  const { maxUnrecordedEvents = DEFAULT_MAX_UNRECORDED_EVENTS } = options;
  if (maxUnrecordedEvents < MIN_UNRECORDED_EVENTS) {
    throw new RangeError(
      `maxUnrecordedEvents is ${maxUnrecordedEvents}, and a unit keeps at least ${MIN_UNRECORDED_EVENTS} events.`,
    );
  }
  const metrics = new FleetMetrics();
  const store = FleetStore.open(options.storePath, options.onStoreFailure);
  const timers = new Timers(clock);
  const listeners: { close(): void }[] = [];
  try {
    const plan = planFleet(options);
    const loaded = loadOrCreateUnits(store, plan, { nowMs: clock.nowMs(), newId, factoryConfiguration, unitPort });
    const deps: UnitDependencies = { store, clock, newId, metrics, factoryConfiguration, maxUnrecordedEvents };
    const makeTransport = transportFactory(options, timers, metrics);
    const members = plan.flatMap((planned): FleetMember[] => {
      const stored = loaded.get(planned.name)?.stored;
      return stored === undefined ? [] : [{ plan: planned, ...makeTransport(new EmulatedUnit(stored, deps)) }];
    });
    warnOfOtherLockers(members, options);
    for (const { unit } of members) metrics.countUnrecordedAtStart(unit.model);
    // A start of the simulator is a boot of its units: those of an earlier run append `UnitRestarted`.
    await Promise.all(members.map(({ unit }) => (loaded.get(unit.name)?.isNew === true ? undefined : unit.reboot())));
    await openListeners(members, listeners, options, timers);
    return runFleet(options, { store, timers, metrics, members, listeners });
  } catch (error) {
    timers.stop();
    for (const listener of listeners) listener.close();
    store.close();
    throw error;
  }
}

/** Warns that stored units have another number of lockers than the settings. They keep theirs, because rentals may run in them. */
function warnOfOtherLockers(members: readonly FleetMember[], { lockers, seed, log }: FleetOptions): void {
  const others = members.filter(({ unit }) => unit.model.lockers.length !== lockers);
  const [first] = others;
  if (first === undefined) return;
  log.warn(
    'Units of the store keep their lockers, although the settings ask for another number. Choose another seed (SIM_SEED, --seed) ' +
      'for a fleet with that number, or install lockers through the control API.',
    { seed, asked: lockers, units: others.length, example: first.unit.name, has: first.unit.model.lockers.length },
  );
}

/** @returns a function that makes the request handler and the NATS transport of a unit, and its pusher when it delivers by push */
function transportFactory(options: FleetOptions, timers: Timers, metrics: FleetMetrics) {
  const { seed, log, clock, channels = DEFAULT_CHANNELS, heartbeatIntervalMs } = options;
  const connectLimit = pLimit(MAX_UNITS_CONNECTING);
  const random = new Random(seed, 'nats');
  const connectionLog = createLog(() => undefined, clock.nowMs);
  const servesRequests = channels.commandChannel === 'nats' || channels.probe === 'nats';
  const heartbeat = heartbeatIntervalMs === undefined ? {} : { heartbeatIntervalMs };
  return (unit: EmulatedUnit) => {
    const requests = new UnitRequestHandler(unit, metrics);
    const deps = { timers, random, connectLimit, log, connectionLog, servesRequests, ...heartbeat };
    const transport = new NatsTransport(unit, requests, deps);
    if (channels.delivery === 'push') {
      const onFailure = (name: string, reason: string) =>
        log.debug('A push failed. The unit repeats it with exponential backoff.', { unit: name, reason });
      new EventPusher(unit, transport, { timers, random, metrics, onFailure }).start();
    }
    return { unit, requests, transport };
  };
}

/** Opens the listeners of all units. `listeners` receives each as soon as it is open, so that a failed start closes it. */
async function openListeners(
  members: readonly FleetMember[],
  listeners: { close(): void }[],
  { seed, log, channels = DEFAULT_CHANNELS }: FleetOptions,
  timers: Timers,
): Promise<void> {
  const http = { timers, random: new Random(seed, 'http'), log };
  const opening = members.map(async ({ unit, requests }) => {
    listeners.push(await listenForHttp(unit, requests, http));
  });
  for (const result of await Promise.allSettled(opening)) {
    if (result.status === 'rejected') throw result.reason;
  }
  const isProbe = channels.probe === 'udp';
  listeners.push(await listenForDatagrams(members, { timers, random: new Random(seed, 'udp'), log, isProbe }));
}

function runFleet(
  options: FleetOptions,
  parts: {
    readonly store: FleetStore;
    readonly timers: Timers;
    readonly metrics: FleetMetrics;
    readonly members: readonly FleetMember[];
    readonly listeners: readonly { close(): void }[];
  },
): Fleet {
  const { platform, channels = DEFAULT_CHANNELS, log, importTimeoutMs } = options;
  const { store, timers, metrics, members, listeners } = parts;
  const registration = new FleetRegistration({
    ...{ platform, channels, timers, log },
    ...(importTimeoutMs === undefined ? {} : { importTimeoutMs }),
  });
  const readiness = () => readinessOf(members, registration.problems);
  for (const { transport } of members) transport.start();
  const registering = registration.run(members).catch((error: unknown) => {
    if (!(error instanceof RegistrationRefusedError)) throw error;
    options.onRegistrationRefused(error);
  });
  logReadinessChanges(readiness, timers, log);
  return {
    members: new Map(members.map((member) => [member.unit.name, member])),
    units: new Map(members.map(({ unit }) => [unit.name, unit])),
    metrics,
    readiness,
    stop: async () => {
      timers.stop();
      registration.stop();
      for (const listener of listeners) listener.close();
      await Promise.all([registering, ...members.map(({ transport }) => transport.stop())]);
      await store.settled();
      store.close();
    },
  };
}

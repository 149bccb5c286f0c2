/**
 * The reactor is the process manager of reservations. It reads `EVENTS` with durable consumers, at least once, and turns events into
 * jobs and follow-up decisions.
 *
 * Every handler reads the state of the unit and decides anew, so handlers are idempotent: after a crash, NATS delivers the message
 * again. What time alone changes is the work of the settlement worker (`../settlement`), which the reactor tells of each commit.
 */

import { recordReportedHash } from '../../../domain/configuration/delivery.ts';
import type { KnownEvent } from '../../../domain/events/catalogue.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import { knownEvents } from '../../../platform/event-store/known-events.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import type { ParkedWork } from '../../../platform/nats/parked-work.ts';
import { parseEventSubject, unitOfUnitSubject } from '../../../platform/nats/subjects.ts';
import { addJob } from '../../../platform/nats/timers.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { recordConfigurationReport } from '../configuration/configuration-report-worker.ts';
import type { SettlementWorker } from '../settlement/settlement-worker.ts';
import type { ReservationSync } from './reservation-sync.ts';

/** Events handled concurrently. Most are handled from memory at once. */
const MAX_CONCURRENT_EVENTS = 2_000;
/** Events of one unit handled concurrently: a unit with many events leaves room for others. */
const MAX_CONCURRENT_EVENTS_PER_UNIT = 64;
const MAX_CONCURRENT_DEVICE_EVENTS = 256;
/** Pause before the reactor handles an event that a unit reported. */
const DEVICE_EVENT_DELAY_MS = 20;
const MAX_CONCURRENT_JOBS = 128;
const SYNC_JOB = 'sync';

/** Events reported by units that may change a booking. */
const BOOKING_DEVICE_EVENTS: ReadonlySet<string> = new Set(['RentalStarted', 'RentalEnded', 'UnitStateReported']);
/** Events that change the list of reservations that the reactor sends to a unit. */
const SYNCED_CHANGES: ReadonlySet<string> = new Set([
  'ReservationConfirmed',
  'ReservationCancelled',
  'ReservationExpired',
  'ReservationRejected',
  'ReservationMoved',
  'ReservationCompleted',
  // The use of a reservation that had ended brings it back.
  'ReservationConflictDetected',
]);
/** Events of the registration that change what a unit may sell, or when, and the one that makes a revoked unit reachable again. */
const SERVICE_CHANGES: ReadonlySet<string> = new Set([
  'UnitUpdated',
  'UnitCredentialsRotated',
  'LockerAdded',
  'LockerRemoved',
  'LockerTakenOutOfService',
  'LockerReturnedToService',
  'UnitMaintenancePlanned',
  'UnitMaintenanceCancelled',
]);
/** The id of a commit that begins an epoch of a unit's log: `UNIT/EPOCH/1-LAST`. */
const FIRST_OF_EPOCH = /\/1-\d+$/;

export interface ReactorOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly settlement: Pick<SettlementWorker, 'noteChange' | 'settle'>;
  readonly sync: ReservationSync;
  readonly parkedWork: ParkedWork;
  readonly newId: () => string;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` aborts, then waits for the running handlers. */
export async function runReactor(options: ReactorOptions): Promise<void> {
  const { nats, signal, sleep, log, sync, parkedWork } = options;
  const shared = { signal, sleep, log, parkedWork };
  await Promise.all([
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'reactor',
      filters: ['evt.*.*.*.booking', 'evt.*.*.*.log', 'evt.*.*.*.connectivity', 'evt.*.*.*.registry'],
      maxConcurrent: MAX_CONCURRENT_EVENTS,
      maxConcurrentPerUnit: MAX_CONCURRENT_EVENTS_PER_UNIT,
      handle: (message) => reactTo(message, options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'reactor-facts',
      filters: ['evt.*.*.*.device'],
      // The handler needs no payload, because it reads the state of the unit.
      headersOnly: true,
      newestOnly: true,
      maxConcurrent: MAX_CONCURRENT_DEVICE_EVENTS,
      handle: async (message) => {
        // After the pause, an append of this process is acknowledged and its events are in the cached state, so nothing need be read.
        await sleep(DEVICE_EVENT_DELAY_MS);
        return onDeviceEvent(message, options);
      },
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'JOBS',
      durable: 'reactor-sync',
      filters: [`job.*.*.*.${SYNC_JOB}`],
      newestOnly: true,
      maxConcurrent: MAX_CONCURRENT_JOBS,
      handle: (message) => sync.syncUnit(unitOf(message)),
    }),
  ]);
}

async function onDeviceEvent(message: WorkMessage, options: ReactorOptions): Promise<WorkResult> {
  const { subject, sequence } = message;
  const parsed = parseEventSubject(subject);
  if (parsed === undefined) return 'done';
  options.decider.noteCommit({ ...parsed, sequence });
  await recordStartConfiguration(await options.settlement.settle(parsed.unit), options);
  // A unit that begins an epoch has lost its store, and the list of reservations with it.
  if (FIRST_OF_EPOCH.test(message.header('Nats-Msg-Id') ?? '')) await addJob(options.nats, parsed.unit, SYNC_JOB);
  return 'done';
}

/** Records the configuration hash that a unit reported in its log when it started. */
async function recordStartConfiguration(state: UnitState, { decider, newId }: ReactorOptions): Promise<void> {
  const { reportedConfiguration } = state.device;
  if (reportedConfiguration === undefined) return;
  const report = { hash: reportedConfiguration.hash, atMs: toMs(reportedConfiguration.at) };
  if (recordReportedHash(state, report).length > 0)
    await recordConfigurationReport(decider, newId, { name: state.name, ...report });
}

async function reactTo(message: WorkMessage, options: ReactorOptions): Promise<WorkResult> {
  const subject = parseEventSubject(message.subject);
  if (subject === undefined) return 'done';
  const { unit, aggregate } = subject;
  const { decider, settlement } = options;
  // The next decision on the unit reads this commit if the cached state lacks it.
  decider.noteCommit({ unit, aggregate, sequence: message.sequence });
  const events = knownEvents(message, options.log);
  if (aggregate === 'booking') {
    // The refused reservation moves to another locker, or is given up.
    if (events.some(({ type }) => type === 'ReservationRefusedByUnit')) await settlement.settle(unit);
    else settlement.noteChange(unit);
    if (events.some(({ type }) => SYNCED_CHANGES.has(type))) await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'registry' && events.some(({ type }) => SERVICE_CHANGES.has(type))) {
    await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'connectivity' && events.some(({ type }) => type === 'UnitWentOnline')) {
    await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'log') {
    if (events.some(recoversBookingEvent)) await settlement.settle(unit);
    if (events.some(losesFirstEvent)) await addJob(options.nats, unit, SYNC_JOB);
  }
  return 'done';
}

/** Whether an event recovers a dead letter that may change a booking. */
function recoversBookingEvent(event: KnownEvent): boolean {
  return event.type === 'UnitEventRecovered' && BOOKING_DEVICE_EVENTS.has(event.data.type);
}

/** Whether an event says that the beginning of an epoch is lost. */
function losesFirstEvent(event: KnownEvent): boolean {
  return event.type === 'UnitLogGapClosed' && event.data.lost && event.data.fromSeq === 1;
}

function unitOf(message: WorkMessage): string {
  return unitOfUnitSubject(message.subject) ?? '';
}

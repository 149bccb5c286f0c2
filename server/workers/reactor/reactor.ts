/**
 * The reactor is the process manager of reservations. It reads `EVENTS` with durable consumers, at least once, and turns events into
 * timers, jobs and follow-up decisions.
 *
 * Every handler reads the state of the unit and decides anew, so handlers are idempotent: after a crash, NATS delivers the message
 * again. Timers are scheduled messages of `JOBS`: they survive every restart, and one that fell due while the platform was down
 * fires when it is back.
 */

import { findReservation } from '../../../domain/booking/reservation.ts';
import { expiryAtMs, settleBookings } from '../../../domain/booking/settlement.ts';
import { recordReportedHash } from '../../../domain/configuration/delivery.ts';
import type { KnownEvent } from '../../../domain/events/catalogue.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import { knownEvents } from '../../../platform/event-store/known-events.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import { parseEventSubject, unitOfUnitSubject } from '../../../platform/nats/subjects.ts';
import type { TimerWriter } from '../../../platform/nats/timer-writer.ts';
import { addJob } from '../../../platform/nats/timers.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { recordConfigurationReport } from '../configuration/configuration-report-worker.ts';
import type { ReservationSync } from './reservation-sync.ts';

/** Events handled concurrently: enough to fill one batch of the timer writer, and bounded in memory. */
const MAX_CONCURRENT_EVENTS = 2_000;
const MAX_CONCURRENT_DEVICE_EVENTS = 256;
/** Pause before the reactor handles an event that a unit reported. */
const DEVICE_EVENT_DELAY_MS = 20;
const MAX_CONCURRENT_JOBS = 128;
/** The reactor delays a job whose timer fired early by at most this much. */
const EARLY_TIMER_MS = 2_000;
const SETTLE_JOB = 'settle';
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
]);

export interface ReactorOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly timers: TimerWriter;
  readonly sync: ReservationSync;
  readonly newId: () => string;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` aborts, then waits for the running handlers. */
export async function runReactor(options: ReactorOptions): Promise<void> {
  const { nats, signal, sleep, log, sync } = options;
  const shared = { signal, sleep, log };
  await Promise.all([
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'reactor',
      filters: ['evt.*.*.*.booking', 'evt.*.*.*.log', 'evt.*.*.*.connectivity'],
      maxConcurrent: MAX_CONCURRENT_EVENTS,
      handle: (message) => reactTo(message, options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'reactor-facts',
      filters: ['evt.*.*.*.device'],
      // The handler needs no payload, because it reads the state of the unit.
      headersOnly: true,
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
      durable: 'reactor-settle',
      filters: [`job.*.*.*.${SETTLE_JOB}`],
      maxConcurrent: MAX_CONCURRENT_JOBS,
      handle: (message) => onTimer(unitOf(message), options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'JOBS',
      durable: 'reactor-sync',
      filters: [`job.*.*.*.${SYNC_JOB}`],
      maxConcurrent: MAX_CONCURRENT_JOBS,
      handle: (message) => sync.syncUnit(unitOf(message), message.deliveries),
    }),
  ]);
}

async function onDeviceEvent({ subject, sequence }: WorkMessage, options: ReactorOptions): Promise<WorkResult> {
  const parsed = parseEventSubject(subject);
  if (parsed === undefined) return 'done';
  options.decider.noteCommit({ ...parsed, sequence });
  await recordStartConfiguration(await settleNow(parsed.unit, options), options);
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
  // The next decision on the unit reads this commit if the cached state lacks it.
  options.decider.noteCommit({ unit, aggregate, sequence: message.sequence });
  const events = knownEvents(message, options.log);
  if (aggregate === 'booking') {
    await setHoldTimers(unit, events, options);
    if (events.some(({ type }) => SYNCED_CHANGES.has(type))) await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'connectivity' && events.some(({ type }) => type === 'UnitWentOnline')) {
    await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'log' && events.some(recoversBookingEvent)) await settleNow(unit, options);
  return 'done';
}

/** Whether an event recovers a dead letter that may change a booking. */
function recoversBookingEvent(event: KnownEvent): boolean {
  return event.type === 'UnitEventRecovered' && BOOKING_DEVICE_EVENTS.has(event.data.type);
}

/** Sets a timer for the expiry of each reservation that the events held or confirmed. */
async function setHoldTimers(unit: string, events: readonly KnownEvent[], { decider, timers }: ReactorOptions) {
  const touched = new Set(
    events.flatMap((event) =>
      event.type === 'ReservationHeld' || event.type === 'ReservationConfirmed' ? [event.data.reservationId] : [],
    ),
  );
  if (touched.size === 0) return;
  const { booking } = await decider.getState(unit);
  await Promise.all(
    [...touched].map(async (reservationId) => {
      const reservation = findReservation(booking, reservationId);
      const due = reservation === undefined ? undefined : expiryAtMs(reservation);
      if (due === undefined) return;
      const name = reservationId.slice(unit.length + 1);
      await timers.set({ unit, name, job: SETTLE_JOB, dueAtMs: due });
    }),
  );
}

async function onTimer(unit: string, options: ReactorOptions): Promise<WorkResult> {
  const state = await settleNow(unit, options);
  const nowMs = options.clock();
  const waits = state.booking.open
    .map((reservation) => (expiryAtMs(reservation) ?? Number.POSITIVE_INFINITY) - nowMs)
    .filter((wait) => wait <= EARLY_TIMER_MS);
  return waits.length === 0 ? 'done' : { retryInMs: Math.max(1, Math.ceil(Math.min(...waits))) };
}

async function settleNow(unit: string, { decider, newId, clock }: ReactorOptions): Promise<UnitState> {
  const meta = { commandId: newId(), actor: 'platform:reactor', source: '/lockfleet/server' };
  return (await decider.decide(unit, 'booking', meta, (state) => settleBookings(state, clock()))).state;
}

function unitOf(message: WorkMessage): string {
  return unitOfUnitSubject(message.subject) ?? '';
}

/**
 * The reactor: the one process manager. A durable reader of `EVENTS`, at least once, that turns events into timers, jobs
 * and follow-up decisions.
 *
 * Every handler folds and decides anew, so a repeat finds nothing to do, and a crash between an event and its consequence
 * is made good when the message comes again. Timers are scheduled messages of `JOBS`: they survive every restart, and one
 * that fell due while the platform was down fires when it is back.
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

/** Enough to fill the timers of one gathering, and bounded in memory. */
const MAX_EVENTS_UNDER_WAY = 2_000;
const MAX_FACTS_UNDER_WAY = 256;
/** Pause before what follows from a fact. */
const FACT_PAUSE_MS = 20;
const MAX_JOBS_UNDER_WAY = 128;
/** A timer that fires this much early waits for its time instead of finding nothing to do. */
const EARLY_TIMER_MS = 2_000;
const SETTLE_JOB = 'settle';
const SYNC_JOB = 'sync';

/** What happens at a unit and may change a booking. */
const DEVICE_FACTS: ReadonlySet<string> = new Set(['RentalStarted', 'RentalEnded', 'UnitStateReported']);
/** What changes the list of reservations that a unit should keep. */
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

/** Runs until `signal` ends it and what is under way is done. */
export async function runReactor(options: ReactorOptions): Promise<void> {
  const { nats, signal, sleep, log, sync } = options;
  const shared = { signal, sleep, log };
  await Promise.all([
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'reactor',
      filters: ['evt.*.*.*.booking', 'evt.*.*.*.log', 'evt.*.*.*.connectivity'],
      maxConcurrent: MAX_EVENTS_UNDER_WAY,
      handle: (message) => reactTo(message, options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'reactor-facts',
      filters: ['evt.*.*.*.device'],
      // Which fact it was does not matter: the unit is folded.
      headersOnly: true,
      maxConcurrent: MAX_FACTS_UNDER_WAY,
      handle: async (message) => {
        // By then whoever appended it in this process has its answer, and nothing need be read.
        await sleep(FACT_PAUSE_MS);
        return reactToFact(message, options);
      },
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'JOBS',
      durable: 'reactor-settle',
      filters: [`job.*.*.*.${SETTLE_JOB}`],
      maxConcurrent: MAX_JOBS_UNDER_WAY,
      handle: (message) => onTimer(unitOf(message), options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'JOBS',
      durable: 'reactor-sync',
      filters: [`job.*.*.*.${SYNC_JOB}`],
      maxConcurrent: MAX_JOBS_UNDER_WAY,
      handle: (message) => sync.syncUnit(unitOf(message), message.deliveries),
    }),
  ]);
}

async function reactToFact({ subject, sequence }: WorkMessage, options: ReactorOptions): Promise<WorkResult> {
  const parsed = parseEventSubject(subject);
  if (parsed === undefined) return 'done';
  options.decider.noteCommit({ ...parsed, sequence });
  await noteConfiguration(await settleNow(parsed.unit, options), options);
  return 'done';
}

/** A unit says in its log what it runs when it begins anew. */
async function noteConfiguration(state: UnitState, { decider, newId }: ReactorOptions): Promise<void> {
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
  // What is decided from here on knows this commit.
  options.decider.noteCommit({ unit, aggregate, sequence: message.sequence });
  const events = knownEvents(message, options.log);
  if (aggregate === 'booking') {
    await setHoldTimers(unit, events, options);
    if (events.some(({ type }) => SYNCED_CHANGES.has(type))) await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'connectivity' && events.some(({ type }) => type === 'UnitWentOnline')) {
    await addJob(options.nats, unit, SYNC_JOB);
  }
  if (aggregate === 'log' && events.some(tellsOfUse)) await settleNow(unit, options);
  return 'done';
}

/** Whether an event says that something happened at the unit after all. */
function tellsOfUse(event: KnownEvent): boolean {
  return event.type === 'UnitEventRecovered' && DEVICE_FACTS.has(event.data.type);
}

/** A timer for each reservation that time alone will change. */
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

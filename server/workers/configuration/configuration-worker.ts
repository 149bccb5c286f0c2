/**
 * The configuration worker pushes the desired configuration to units.
 *
 * When an event may make a push due, the worker adds a job at once or sets a JetStream timer for the time of the push. A job carries
 * no decision: the worker reads the latest state of the unit and decides anew, so jobs are idempotent. The worker delays a job whose
 * timer fired early. A timer that fell due while the platform was down fires when it is back. Pushes are due only while the
 * unit is online (`nextPushAtMs`).
 */

import { nextPushAtMs } from '../../../domain/configuration/delivery.ts';
import type { EventType } from '../../../domain/events/catalogue.ts';
import { knownEvents } from '../../../platform/event-store/known-events.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import type { ParkedWork } from '../../../platform/nats/parked-work.ts';
import { parseEventSubject, unitOfUnitSubject } from '../../../platform/nats/subjects.ts';
import type { TimerWriter } from '../../../platform/nats/timer-writer.ts';
import { addJob } from '../../../platform/nats/timers.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { ConfigurationPusher } from '../../../platform/units/configuration-pusher.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

const PUSH_JOB = 'configuration';
/** One timer for each unit: the next push. */
const TIMER_NAME = 'configuration';
/** Events handled concurrently: enough to fill one batch of the timer writer, and bounded in memory. */
const MAX_CONCURRENT_EVENTS = 1_000;
/** Events of one unit handled concurrently: a unit with many events leaves room for others. */
const MAX_CONCURRENT_EVENTS_PER_UNIT = 16;
/** Pushes that run concurrently. A unit that does not answer occupies one of them until its command times out. */
const MAX_CONCURRENT_PUSHES = 256;
/** The worker delays a job that is early by at most this much. It drops an earlier job: the event that delayed the push sets a timer. */
const EARLY_TIMER_MS = 2_000;

/** Events that may make a push due. */
const PUSH_TRIGGERS: ReadonlySet<EventType> = new Set([
  'ConfigurationChanged',
  'ConfigurationPushFailed',
  'ConfigurationDrifted',
  'UnitWentOnline',
  'UnitCredentialsRotated',
]);

export interface ConfigurationWorkerOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly pusher: ConfigurationPusher;
  readonly timers: TimerWriter;
  readonly parkedWork: ParkedWork;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` aborts, then waits for the running handlers. */
export async function runConfigurationWorker(options: ConfigurationWorkerOptions): Promise<void> {
  const { nats, parkedWork, signal, sleep, log } = options;
  const shared = { parkedWork, signal, sleep, log };
  await Promise.all([
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'configuration',
      filters: ['evt.*.*.*.config', 'evt.*.*.*.connectivity', 'evt.*.*.*.registry'],
      maxConcurrent: MAX_CONCURRENT_EVENTS,
      maxConcurrentPerUnit: MAX_CONCURRENT_EVENTS_PER_UNIT,
      handle: (message) => onEvent(message, options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'JOBS',
      durable: 'configuration-push',
      filters: [`job.*.*.*.${PUSH_JOB}`],
      // One push to a unit runs at a time.
      newestOnly: true,
      maxConcurrent: MAX_CONCURRENT_PUSHES,
      handle: (message) => onJob(unitOfUnitSubject(message.subject) ?? '', options),
    }),
  ]);
}

async function onEvent(message: WorkMessage, options: ConfigurationWorkerOptions): Promise<WorkResult> {
  const subject = parseEventSubject(message.subject);
  const isTrigger = knownEvents(message, options.log).some(({ type }) => PUSH_TRIGGERS.has(type));
  if (subject === undefined || !isTrigger) return 'done';
  const { unit, aggregate } = subject;
  const { decider, nats, timers, clock } = options;
  decider.noteCommit({ unit, aggregate, sequence: message.sequence });
  const dueMs = nextPushAtMs(await decider.getState(unit));
  if (dueMs === undefined) return 'done';
  if (dueMs <= clock()) await addJob(nats, unit, PUSH_JOB);
  else await timers.set({ unit, name: TIMER_NAME, job: PUSH_JOB, dueAtMs: dueMs });
  return 'done';
}

async function onJob(unit: string, options: ConfigurationWorkerOptions): Promise<WorkResult> {
  const { decider, pusher, clock, log } = options;
  // Another process may have added the job, because of a commit that the cache of this process lacks.
  const state = await decider.getLatestState(unit);
  const dueMs = nextPushAtMs(state);
  if (dueMs === undefined) return 'done';
  const waitMs = dueMs - clock();
  if (waitMs > EARLY_TIMER_MS) return 'done';
  if (waitMs > 0) return { retryInMs: Math.ceil(waitMs) };
  const decided = await pusher.push(state, { priority: 'background' });
  const { configuration } = decided.state;
  log.debug('Pushed a configuration to a unit.', { unit, status: configuration.status });
  return 'done';
}

/**
 * The configuration worker: sees to it that what is wanted on a unit reaches it.
 *
 * What happens to a configuration, and units that come online, are events; each leads to a job at once, or to a timer of
 * JetStream for when the next push is due. Both say only that somebody should look: whoever takes the job folds the unit anew
 * and does what is due then. So a repeat finds nothing to do, a timer that came early waits, and one that fell due while
 * everything was down fires afterwards. A unit that is offline costs nothing until it comes back.
 */

import { nextPushAtMs } from '../../../domain/configuration/delivery.ts';
import type { EventType } from '../../../domain/events/catalogue.ts';
import { knownEvents } from '../../../platform/event-store/known-events.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
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
/** Enough to fill the timers of one gathering, and bounded in memory. */
const MAX_EVENTS_UNDER_WAY = 1_000;
/** Units that are pushed to at once: each that does not answer keeps a place for the time-out of a command. */
const MAX_PUSHES_UNDER_WAY = 256;
/** A timer that fires this much early waits for its time; before that, another one is set for it. */
const EARLY_TIMER_MS = 2_000;
/** Pause before a unit is looked at again that is being pushed to. */
const BUSY_RETRY_MS = 1_000;

/** What may make a push due. */
const OCCASIONS: ReadonlySet<EventType> = new Set([
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
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it and what is under way is done. */
export async function runConfigurationWorker(options: ConfigurationWorkerOptions): Promise<void> {
  const { nats, signal, sleep, log } = options;
  const shared = { signal, sleep, log };
  const underWay = new Set<string>();
  await Promise.all([
    consumeWork(nats, {
      ...shared,
      stream: 'EVENTS',
      durable: 'configuration',
      filters: ['evt.*.*.*.config', 'evt.*.*.*.connectivity', 'evt.*.*.*.registry'],
      maxConcurrent: MAX_EVENTS_UNDER_WAY,
      handle: (message) => onEvent(message, options),
    }),
    consumeWork(nats, {
      ...shared,
      stream: 'JOBS',
      durable: 'configuration-push',
      filters: [`job.*.*.*.${PUSH_JOB}`],
      maxConcurrent: MAX_PUSHES_UNDER_WAY,
      handle: (message) => onJob(unitOfUnitSubject(message.subject) ?? '', underWay, options),
    }),
  ]);
}

async function onEvent(message: WorkMessage, options: ConfigurationWorkerOptions): Promise<WorkResult> {
  const subject = parseEventSubject(message.subject);
  const isOccasion = knownEvents(message, options.log).some(({ type }) => OCCASIONS.has(type));
  if (subject === undefined || !isOccasion) return 'done';
  const { unit, aggregate } = subject;
  const { decider, nats, timers, clock } = options;
  decider.noteCommit({ unit, aggregate, sequence: message.sequence });
  const dueMs = nextPushAtMs(await decider.getState(unit));
  if (dueMs === undefined) return 'done';
  if (dueMs <= clock()) await addJob(nats, unit, PUSH_JOB);
  else await timers.set({ unit, name: TIMER_NAME, job: PUSH_JOB, dueAtMs: dueMs });
  return 'done';
}

async function onJob(unit: string, underWay: Set<string>, options: ConfigurationWorkerOptions): Promise<WorkResult> {
  const { decider, pusher: push, clock, log } = options;
  if (underWay.has(unit)) return { retryInMs: BUSY_RETRY_MS };
  underWay.add(unit);
  try {
    // As the store has it: whoever put the job there may have been another process, and known more than this one.
    const state = await decider.getLatestState(unit);
    const dueMs = nextPushAtMs(state);
    if (dueMs === undefined) return 'done';
    const waitMs = dueMs - clock();
    if (waitMs > EARLY_TIMER_MS) return 'done';
    if (waitMs > 0) return { retryInMs: Math.ceil(waitMs) };
    const decided = await push.push(state, { priority: 'background' });
    const { configuration } = decided.state;
    log.debug('pushed a configuration', { unit, status: configuration.status });
    return 'done';
  } finally {
    underWay.delete(unit);
  }
}

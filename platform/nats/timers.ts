/**
 * Timers and jobs in the stream `JOBS`. A timer is a scheduled message: the server keeps it, and stores it under its target
 * subject when it is due. Another timer on the same subject replaces it.
 */

import type { Nats } from './connection.ts';
import { MAX_ATOMIC_MESSAGES, type OutgoingMessage, publishAtomically, publishStored } from './jetstream.ts';
import { jobSubject, timerSubject } from './subjects.ts';

const PUBLISH_TIMEOUT_MS = 5_000;

export interface Timer {
  readonly unit: string;
  /** Unique in the unit: a timer replaces the earlier timer of the same name. */
  readonly name: string;
  /** The kind of job that is queued when the timer is due. */
  readonly job: string;
  /** Milliseconds since 1970. A timer whose time has passed fires at once. */
  readonly dueAtMs: number;
}

/**
 * Sets timers durably, up to `MAX_ATOMIC_MESSAGES` in one atomic batch. Of two timers of the same name, the later one counts.
 * @throws NatsUnavailableError, JetStreamError
 */
export async function setTimers(nats: Nats, timers: readonly Timer[], newId: () => string): Promise<void> {
  const bySubject = new Map(timers.map((timer) => [timerSubject(timer.unit, timer.name), timer]));
  const messages = [...bySubject].map(([subject, timer]) => scheduled(subject, timer));
  for (let start = 0; start < messages.length; start += MAX_ATOMIC_MESSAGES) {
    const page = messages.slice(start, start + MAX_ATOMIC_MESSAGES);
    const [first] = page;
    if (page.length === 1 && first !== undefined) await publishStored(nats, first, PUBLISH_TIMEOUT_MS);
    else await publishAtomically(nats, page, newId(), PUBLISH_TIMEOUT_MS);
  }
}

function scheduled(subject: string, { unit, job, dueAtMs }: Timer): OutgoingMessage {
  return {
    subject,
    payload: '',
    headers: {
      'Nats-Schedule': `@at ${new Date(dueAtMs).toISOString()}`,
      'Nats-Schedule-Target': jobSubject(unit, job),
    },
  };
}

/** Queues a job that is due now. @throws NatsUnavailableError, JetStreamError */
export async function addJob(nats: Nats, unit: string, job: string): Promise<void> {
  await publishStored(nats, { subject: jobSubject(unit, job), payload: '', headers: {} }, PUBLISH_TIMEOUT_MS);
}

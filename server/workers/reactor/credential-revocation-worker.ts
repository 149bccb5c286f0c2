/**
 * The credential revocation worker revokes at NATS the unit credentials that an event ended, even if the process that recorded the
 * event crashed. It has its own durable consumer, so that its events delay no other worker while NATS' system account is unreachable.
 */

import type { EventType } from '../../../domain/events/catalogue.ts';
import { revokedNatsUsers } from '../../../domain/registry/registry.ts';
import { RevocationsFullError, type UnitRevocations } from '../../../platform/credentials/revocations.ts';
import { knownEvents } from '../../../platform/event-store/known-events.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import type { ParkedWork } from '../../../platform/nats/parked-work.ts';
import { parseEventSubject } from '../../../platform/nats/subjects.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

const MAX_CONCURRENT_EVENTS = 256;
/** Pause before the worker retries an event that the cached state of the unit does not contain yet. */
const STALE_RETRY_MS = 100;

const REVOKING_EVENTS: ReadonlySet<EventType> = new Set([
  'UnitCredentialsRotated',
  'UnitCredentialsRevoked',
  'UnitRetired',
]);

export interface CredentialRevocationWorkerOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly revocations: Pick<UnitRevocations, 'ensure'>;
  readonly parkedWork: ParkedWork;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` aborts, then waits for the running handlers. */
export function runCredentialRevocationWorker(options: CredentialRevocationWorkerOptions): Promise<void> {
  const { nats, parkedWork, signal, sleep, log } = options;
  return consumeWork(nats, {
    stream: 'EVENTS',
    durable: 'reactor-credentials',
    filters: ['evt.*.*.*.registry'],
    maxConcurrent: MAX_CONCURRENT_EVENTS,
    handle: (message) => revokeCredentials(message, options),
    parkedWork,
    signal,
    sleep,
    log,
  });
}

async function revokeCredentials(
  message: WorkMessage,
  options: CredentialRevocationWorkerOptions,
): Promise<WorkResult> {
  const { decider, revocations, log } = options;
  const subject = parseEventSubject(message.subject);
  const isRevoking = knownEvents(message, log).some(({ type }) => REVOKING_EVENTS.has(type));
  if (subject === undefined || !isRevoking) return 'done';
  const { registry, sequences } = await decider.getState(subject.unit);
  if (sequences.registry < message.sequence) return { retryInMs: STALE_RETRY_MS };
  try {
    await revocations.ensure(revokedNatsUsers(registry));
  } catch (error) {
    if (!(error instanceof RevocationsFullError)) throw error;
    return {
      park: `The ended credentials of unit ${subject.unit} still work, because the revocation list is full. Give the units a new NATS account.`,
    };
  }
  return 'done';
}

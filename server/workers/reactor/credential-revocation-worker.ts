/**
 * Makes sure that ended credentials of units have ended at NATS too, whatever crashed after it was recorded. A durable reader
 * of its own: while NATS' system account is out of reach, these events wait, and no others behind them.
 */

import type { EventType } from '../../../domain/events/catalogue.ts';
import { revokedNatsUsers } from '../../../domain/registry/registry.ts';
import { RevocationsFullError, type UnitRevocations } from '../../../platform/credentials/revocations.ts';
import { knownEvents } from '../../../platform/event-store/known-events.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import { parseEventSubject } from '../../../platform/nats/subjects.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

const MAX_EVENTS_UNDER_WAY = 256;
/** Pause before an event is looked at again that this process' states do not show yet. */
const STALE_RETRY_MS = 100;
/** Nothing but an operator makes room in a list that is full. */
const FULL_RETRY_MS = 60_000;

const ENDINGS: ReadonlySet<EventType> = new Set(['UnitCredentialsRotated', 'UnitCredentialsRevoked', 'UnitRetired']);

export interface CredentialRevocationWorkerOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly revocations: Pick<UnitRevocations, 'ensure'>;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it and what is under way is done. */
export function runCredentialRevocationWorker(options: CredentialRevocationWorkerOptions): Promise<void> {
  const { nats, signal, sleep, log } = options;
  return consumeWork(nats, {
    stream: 'EVENTS',
    durable: 'reactor-credentials',
    filters: ['evt.*.*.*.registry'],
    maxConcurrent: MAX_EVENTS_UNDER_WAY,
    handle: (message) => endOf(message, options),
    signal,
    sleep,
    log,
  });
}

async function endOf(message: WorkMessage, options: CredentialRevocationWorkerOptions): Promise<WorkResult> {
  const { decider, revocations, log } = options;
  const subject = parseEventSubject(message.subject);
  const isEnding = knownEvents(message, log).some(({ type }) => ENDINGS.has(type));
  if (subject === undefined || !isEnding) return 'done';
  const { registry, sequences } = await decider.getState(subject.unit);
  if (sequences.registry < message.sequence) return { retryInMs: STALE_RETRY_MS };
  try {
    await revocations.ensure(revokedNatsUsers(registry));
  } catch (error) {
    if (!(error instanceof RevocationsFullError)) throw error;
    log.error('ended credentials still work', { unit: subject.unit, error });
    return { retryInMs: FULL_RETRY_MS };
  }
  return 'done';
}

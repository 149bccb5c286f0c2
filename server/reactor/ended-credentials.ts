/**
 * Makes sure that ended credentials of units have ended at NATS too, whatever crashed after it was recorded. A durable reader
 * of its own: while NATS' system account is out of reach, these events wait, and no others behind them.
 */

import { upcast } from '../../domain/events/catalogue.ts';
import { endedNatsUsers } from '../../domain/registry.ts';
import { RevocationsFullError, type UnitRevocations } from '../../platform/credentials/revocations.ts';
import { decodeCommit, MalformedCommitError } from '../../platform/event-store/store.ts';
import type { Log } from '../../platform/log.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { parseEventSubject } from '../../platform/nats/subjects.ts';
import { type WorkMessage, type WorkResult, work } from '../../platform/nats/work-queue.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';

const MAX_EVENTS_UNDER_WAY = 256;
/** Pause before an event is looked at again that this process' states do not show yet. */
const STALE_RETRY_MS = 100;
/** Nothing but an operator makes room in a list that is full. */
const FULL_RETRY_MS = 60_000;

const ENDINGS: ReadonlySet<string> = new Set(['UnitCredentialsRotated', 'UnitCredentialsRevoked', 'UnitRetired']);

export interface EndedCredentialsOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly revocations: Pick<UnitRevocations, 'ensure'>;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it and what is under way is done. */
export function endCredentials(options: EndedCredentialsOptions): Promise<void> {
  const { nats, signal, sleep, log } = options;
  return work(nats, {
    stream: 'EVENTS',
    durable: 'reactor-credentials',
    filters: ['evt.*.*.*.registry'],
    maxPending: MAX_EVENTS_UNDER_WAY,
    handle: (message) => endOf(message, options),
    signal,
    sleep,
    log,
  });
}

async function endOf(message: WorkMessage, options: EndedCredentialsOptions): Promise<WorkResult> {
  const { decider, revocations, log } = options;
  const subject = parseEventSubject(message.subject);
  if (subject === undefined || !endsCredentials(message, log)) return 'done';
  const { registry, sequences } = await decider.state(subject.unit);
  if (sequences.registry < message.sequence) return { retryInMs: STALE_RETRY_MS };
  try {
    await revocations.ensure(endedNatsUsers(registry));
  } catch (error) {
    if (!(error instanceof RevocationsFullError)) throw error;
    log.error('ended credentials still work', { unit: subject.unit, error });
    return { retryInMs: FULL_RETRY_MS };
  }
  return 'done';
}

function endsCredentials(message: WorkMessage, log: Log): boolean {
  try {
    const events = decodeCommit(new TextDecoder().decode(message.data));
    return events.some((event) => ENDINGS.has(upcast(event)?.type ?? ''));
  } catch (error) {
    if (!(error instanceof MalformedCommitError)) throw error;
    log.error('a message in EVENTS is no commit', { sequence: message.sequence, error });
    return false;
  }
}

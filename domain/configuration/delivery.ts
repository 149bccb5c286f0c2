/**
 * The decisions that bring a desired configuration to a unit (its states: `configuration.ts`): changes, the outcomes of pushes, the
 * reports of units, and when a push is due.
 */

import type { ConfigurationValues } from '../configuration-values.ts';
import type { EventDraft } from '../events/drafts.ts';
import { Refusal } from '../refusal.ts';
import { requireUnit } from '../registry/registry.ts';
import { MAX_TEXT_LENGTH, toInstant, toMs } from '../vocabulary.ts';
import { type ChangeMode, requireConfigured } from './configuration.ts';
import { configurationHash, isSameHash } from './configuration-hash.ts';
import type { ConfigurationContext } from './context.ts';
import { validateConfiguration } from './validation.ts';

/** How long the server that records a live change has to send it before the queue sends it. */
export const LIVE_GRACE_MS = 10_000;
/** How long a report may have been in transit: one that arrives sooner after a proof does not contradict it. */
export const REPORT_TOLERANCE_MS = 5_000;
const MAX_REPORTED_HASH_LENGTH = 100;
const MS_PER_S = 1_000;

/** A change of the desired configuration. */
export interface ConfigurationChange {
  readonly commandId: string;
  readonly values: ConfigurationValues;
  readonly mode: ChangeMode;
  /** The version on which the change is based. The change is refused when another version is desired. */
  readonly expectedVersion?: number | undefined;
  /** Whether a live change of a unit that is known to be offline is refused or queued. @default refuse */
  readonly ifOffline?: 'refuse' | 'queue' | undefined;
}

/**
 * Changes the desired values of a unit. Values that are desired already change nothing, unless the unit has rejected them.
 * @throws Refusal `not-found`, `precondition-failed`, `validation` (paths below `/values`), `unit-offline`.
 */
export function changeConfiguration(state: ConfigurationContext, change: ConfigurationChange): EventDraft[] {
  requireUnit(state.registry);
  const configuration = requireConfigured(state.configuration);
  const { desired, commandIds: commands, status } = configuration;
  const { commandId, values, expectedVersion, ifOffline = 'refuse' } = change;
  if (commands.includes(commandId)) return [];
  if (expectedVersion !== undefined && expectedVersion !== desired.version) {
    throw new Refusal('precondition-failed', `Version ${desired.version} is wanted by now, not ${expectedVersion}.`);
  }
  const mistakes = validateConfiguration(values).map(({ path, message }) => ({ path: `/values${path}`, message }));
  if (mistakes.length > 0) throw new Refusal('validation', 'The values do not hold together.', mistakes);
  const isOffline = state.connectivity.status !== 'online';
  if (change.mode === 'live' && isOffline && ifOffline === 'refuse') {
    throw new Refusal('unit-offline', 'The unit is not online. Nothing was changed.');
  }
  const hash = configurationHash(values);
  if (hash === desired.hash && status !== 'rejected') return [];
  const mode = isOffline ? 'queued' : change.mode;
  return [{ type: 'ConfigurationChanged', data: { version: desired.version + 1, hash, values, mode } }];
}

/** Restores the configuration before a version, if that version is still desired and the unit has not proved it. */
export function withdrawChange(
  state: ConfigurationContext,
  { version, former: previous }: { readonly version: number; readonly former: ConfigurationValues },
): EventDraft[] {
  const { configuration, registry } = state;
  if (registry.status !== 'registered' || configuration.status === 'unconfigured') return [];
  const { desired, status, reported } = configuration;
  const isProved = status === 'applied' || (reported !== undefined && isSameHash(reported.hash, desired.hash));
  if (desired.version !== version || isProved) return [];
  const data = { version: version + 1, hash: configurationHash(previous), values: previous, mode: 'queued' as const };
  return [{ type: 'ConfigurationChanged', data }];
}

/** The outcome of a push. */
export type PushOutcome =
  /** The unit answered that it applied the configuration, with the hash that it runs. */
  | { readonly answer: 'done'; readonly hash: string | undefined }
  | { readonly answer: 'rejected'; readonly reason: string }
  /** The unit could not apply it, or answered otherwise. The push is repeated. */
  | { readonly answer: 'failed'; readonly reason: string }
  /** The unit did not answer. The push is repeated. */
  | { readonly answer: 'none'; readonly reason: string };

/** Records the outcome of pushing a version. A version that is not desired any more, or is proved, needs no record. */
export function recordPushOutcome(
  state: ConfigurationContext,
  push: {
    readonly version: number;
    readonly outcome: PushOutcome;
    readonly nowMs: number;
    readonly retryScheduleS: readonly number[];
  },
): EventDraft[] {
  const { configuration } = state;
  if (configuration.status === 'unconfigured' || configuration.desired.version !== push.version) return [];
  const { status, desired, attempts } = configuration;
  const { version, hash } = desired;
  if (status === 'applied') return [];
  const { outcome } = push;
  if (outcome.answer === 'done' && outcome.hash !== undefined && isSameHash(outcome.hash, hash)) {
    return [{ type: 'ConfigurationApplied', data: { version, hash, evidence: 'answer' } }];
  }
  if (status === 'rejected') return [];
  if (outcome.answer === 'rejected') {
    return [{ type: 'ConfigurationRejected', data: { version, hash, reason: truncateReason(outcome.reason) } }];
  }
  const attempt = attempts + 1;
  const nextAttemptAt = toInstant(push.nowMs + retryDelayMs(push.retryScheduleS, attempt));
  const reason = outcome.answer === 'done' ? hashMismatchReason(outcome.hash) : outcome.reason;
  const unanswered = outcome.answer === 'none' ? { unanswered: true } : {};
  const data = { version, attempt, reason: truncateReason(reason), ...unanswered, nextAttemptAt };
  return [{ type: 'ConfigurationPushFailed', data }];
}

function hashMismatchReason(hash: string | undefined): string {
  return hash === undefined ? 'the unit does not say what it runs' : `the unit runs another configuration: ${hash}`;
}

function truncateReason(reason: string): string {
  return reason.slice(0, MAX_TEXT_LENGTH);
}

/** The wait after the n-th failed push; the last of the schedule repeats. */
function retryDelayMs(retryScheduleS: readonly number[], attempt: number): number {
  return (retryScheduleS[attempt - 1] ?? retryScheduleS.at(-1) ?? 0) * MS_PER_S;
}

/**
 * Records the configuration that a unit reports in a ping, a heartbeat or its log.
 * `hash` is the whole hash or its first letters. `atMs` is when the unit reported it, or was asked, on the platform's clock.
 */
export function recordReportedHash(
  state: ConfigurationContext,
  { hash, atMs }: { readonly hash: string; readonly atMs: number },
): EventDraft[] {
  const { configuration, registry } = state;
  if (registry.status !== 'registered' || configuration.status === 'unconfigured') return [];
  const { status, desired, desiredSince: wantedAt, mode, reported } = configuration;
  const { version } = desired;
  if (isSameHash(hash, desired.hash)) {
    // A report from before the change may name the same values, which ran at an earlier time.
    const isProof = status !== 'applied' && atMs > toMs(wantedAt);
    return isProof ? [{ type: 'ConfigurationApplied', data: { version, hash: desired.hash, evidence: 'report' } }] : [];
  }
  const isFirst = status === 'pending' && mode === undefined;
  const isNews = reported === undefined || atMs > toMs(reported.at) + REPORT_TOLERANCE_MS;
  if (!isNews || !(isFirst || status === 'applied')) return [];
  return [
    { type: 'ConfigurationDrifted', data: { version, hash: desired.hash, reportedHash: toPrintableToken(hash) } },
  ];
}

/** A unit can report any text. */
function toPrintableToken(text: string): string {
  return text.replace(/[^!-~]/g, '?').slice(0, MAX_REPORTED_HASH_LENGTH) || '?';
}

/**
 * When the next push is due, milliseconds since 1970; `-Infinity` means at once, `undefined` not before the state changes. Pushes are
 * due only while the unit is online; going online is a change of the state.
 */
export function nextPushAtMs({ registry, connectivity, configuration }: ConfigurationContext): number | undefined {
  if (registry.status !== 'registered' || registry.credentialsRevoked || connectivity.status !== 'online')
    return undefined;
  switch (configuration.status) {
    case 'queued':
    case 'drifted':
      return Number.NEGATIVE_INFINITY;
    case 'pending':
      // Units are expected to run the configuration of the registration: it is pushed when a unit reports another one.
      return configuration.mode === undefined ? undefined : toMs(configuration.desiredSince) + LIVE_GRACE_MS;
    case 'failed': {
      const { pushedAt, nextAttemptAt } = configuration;
      const isBackSince = pushedAt !== undefined && toMs(connectivity.since) > toMs(pushedAt);
      if (isBackSince) return Number.NEGATIVE_INFINITY;
      return nextAttemptAt === undefined ? undefined : toMs(nextAttemptAt);
    }
    default:
      return undefined;
  }
}

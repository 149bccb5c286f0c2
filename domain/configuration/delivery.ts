/**
 * What the platform does to bring a wanted configuration to a unit (its states: `configuration-state.ts`): changes, what came of
 * pushes, what units say that they run, and when a push is due.
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

/** How long whoever wanted a change live has to send it before the queue does. */
export const LIVE_GRACE_MS = 10_000;
/** A report may have been under way for so long: one that comes sooner after a proof says nothing against it. */
export const REPORT_TOLERANCE_MS = 5_000;
const MAX_REPORTED_HASH_LENGTH = 100;
const MS_PER_S = 1_000;

/** A change that somebody wants. */
export interface ConfigurationChange {
  readonly commandId: string;
  readonly values: ConfigurationValues;
  readonly mode: ChangeMode;
  /** The version that it was made from: another one by now refuses it. */
  readonly expectedVersion?: number | undefined;
  /** What becomes of a live change while the unit is known to be offline. @default refuse */
  readonly ifOffline?: 'refuse' | 'queue' | undefined;
}

/**
 * Wants other values on a unit. What is wanted already changes nothing, unless the unit has rejected it: then it is wanted anew.
 * Refused: `not-found`, `precondition-failed`, `validation` (paths below `/values`), `unit-offline`.
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

/** Wants again what was wanted before a version, as long as that one is wanted and the unit has not proved it. */
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

/** What came of a push. */
export type PushOutcome =
  /** The unit says that it took it, and what it runs now. */
  | { readonly answer: 'done'; readonly hash: string | undefined }
  | { readonly answer: 'rejected'; readonly reason: string }
  /** It could not apply it, said something else, or nothing: the push is tried again. */
  | { readonly answer: 'failed'; readonly reason: string };

/** Records what came of pushing a version. What is no longer wanted, or proved already, needs no record. */
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
  const reason = outcome.answer === 'failed' ? outcome.reason : hashMismatchReason(outcome.hash);
  return [
    { type: 'ConfigurationPushFailed', data: { version, attempt, reason: truncateReason(reason), nextAttemptAt } },
  ];
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
 * Takes note of what a unit says that it runs, in a ping, a heartbeat or its log.
 * `hash`: whole, or its first letters. `atMs`: when it said so, or was asked, on the platform's clock.
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
    // From before the change it says what ran then, which may have been the same values once.
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

/** A unit may say anything. */
function toPrintableToken(text: string): string {
  return text.replace(/[^!-~]/g, '?').slice(0, MAX_REPORTED_HASH_LENGTH) || '?';
}

/**
 * When the wanted configuration is to be pushed next, milliseconds since 1970, `-Infinity` for at once. `undefined`: not before
 * something changes. Only a unit that is online is sent anything, and its coming online is an occasion.
 */
export function nextPushAtMs({ registry, connectivity, configuration }: ConfigurationContext): number | undefined {
  if (registry.status !== 'registered' || registry.credentialsRevoked || connectivity.status !== 'online')
    return undefined;
  switch (configuration.status) {
    case 'queued':
    case 'drifted':
      return Number.NEGATIVE_INFINITY;
    case 'pending':
      // The one of the registration is what units come with: it is sent when they say that they run another.
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

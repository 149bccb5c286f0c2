/**
 * The configuration that is wanted on a unit, and how far it has come there: the fold of a unit's `config` events.
 *
 *   registered ──▶ pending                    change (live) ──▶ pending       change (queued) ──▶ queued
 *
 *   pending, queued, drifted, failed ──push fails──▶ failed
 *   pending, queued, drifted, failed ──unit says no──▶ rejected ──▶ waits for a change
 *   any ──proof of the hash──▶ applied ──report of another hash──▶ drifted ──▶ is pushed again
 *   pending since the registration ──report of another hash──▶ drifted
 *
 * A change begins anew from any state. `applied` means that the unit has proved the hash, never that something was sent.
 */

import type { VersionedConfiguration } from '../configuration-values.ts';
import type { EventOf, KnownEvent } from '../events/catalogue.ts';
import { Refusal } from '../refusal.ts';

/** Commands that a unit's configuration remembers, so that a repeated one changes nothing. */
const MAX_REMEMBERED_COMMANDS = 16;

export const CONFIGURATION_STATUSES = ['applied', 'pending', 'queued', 'drifted', 'failed', 'rejected'] as const;
export type ConfigurationStatus = (typeof CONFIGURATION_STATUSES)[number];
export type ChangeMode = EventOf<'ConfigurationChanged'>['mode'];

export type ConfigurationState =
  | { readonly status: 'unconfigured' }
  | {
      readonly status: ConfigurationStatus;
      readonly desired: VersionedConfiguration;
      /** Since when. */
      readonly desiredSince: string;
      /** How it was to be brought; undefined for the one of the registration. */
      readonly mode?: ChangeMode;
      /** Ids of the last commands that changed it, oldest first. */
      readonly commandIds: readonly string[];
      /** Pushes that failed in a row since it was wanted, or since it drifted. */
      readonly attempts: number;
      /** When a push was last answered, or given up. */
      readonly pushedAt?: string;
      /** Of a failed one: when the next push is due while the unit stays online. */
      readonly nextAttemptAt?: string;
      /** Why it failed or was rejected. */
      readonly reason?: string;
      /** When the unit last proved something of what it runs, and what. */
      readonly reported?: { readonly hash: string; readonly at: string };
    };
export type UnitConfiguration = Exclude<ConfigurationState, { status: 'unconfigured' }>;

export const NOT_CONFIGURED: ConfigurationState = { status: 'unconfigured' };

export function evolveConfiguration(state: ConfigurationState, event: KnownEvent): ConfigurationState {
  if (event.type === 'UnitRegistered') {
    const { configuration } = event.data;
    return { status: 'pending', desired: configuration, desiredSince: event.time, commandIds: [], attempts: 0 };
  }
  if (state.status === 'unconfigured') return state;
  switch (event.type) {
    case 'ConfigurationChanged':
      return applyChange(state, event);
    case 'ConfigurationApplied': {
      const { hash, version, evidence } = event.data;
      if (version !== state.desired.version) return state;
      const pushed = evidence === 'answer' ? { pushedAt: event.time } : {};
      return { ...withoutPushOutcome(state), status: 'applied', ...pushed, reported: { hash, at: event.time } };
    }
    case 'ConfigurationRejected': {
      const { version, reason } = event.data;
      if (version !== state.desired.version) return state;
      return { ...withoutPushOutcome(state), status: 'rejected', reason, pushedAt: event.time };
    }
    case 'ConfigurationPushFailed': {
      const { version, attempt, reason, nextAttemptAt } = event.data;
      if (version !== state.desired.version) return state;
      const next = nextAttemptAt === undefined ? {} : { nextAttemptAt };
      return {
        ...withoutPushOutcome(state),
        status: 'failed',
        attempts: attempt,
        reason,
        ...next,
        pushedAt: event.time,
      };
    }
    case 'ConfigurationDrifted':
      return {
        ...withoutPushOutcome(state),
        status: 'drifted',
        reported: { hash: event.data.reportedHash, at: event.time },
      };
    default:
      return state;
  }
}

function applyChange(
  state: UnitConfiguration,
  event: Extract<KnownEvent, { type: 'ConfigurationChanged' }>,
): UnitConfiguration {
  const { version, hash, values, mode } = event.data;
  const commands = event.causationid === undefined ? state.commandIds : [...state.commandIds, event.causationid];
  return {
    ...withoutPushOutcome(state),
    status: mode === 'live' ? 'pending' : 'queued',
    desired: { version, hash, values },
    desiredSince: event.time,
    mode,
    commandIds: commands.slice(-MAX_REMEMBERED_COMMANDS),
  };
}

/** Without what was of the last push. */
function withoutPushOutcome(state: UnitConfiguration): UnitConfiguration {
  const { reason: _, nextAttemptAt: __, ...rest } = state;
  return { ...rest, attempts: 0 };
}

/** What is wanted on a unit that is registered. */
export function requireConfigured(configuration: ConfigurationState): UnitConfiguration {
  if (configuration.status === 'unconfigured') throw new Refusal('not-found', 'There is no such unit.');
  return configuration;
}

/**
 * The desired configuration of a unit and its delivery: the fold of the unit's `config` events.
 *
 *   registered ──▶ pending                    change (live) ──▶ pending       change (queued) ──▶ queued
 *
 *   pending, queued, drifted, failed ──push fails──▶ failed
 *   pending, queued, drifted, failed ──unit refuses──▶ rejected ──▶ waits for a change
 *   any ──proof of the hash──▶ applied ──report of another hash──▶ drifted ──▶ pushed again
 *   pending since the registration ──report of another hash──▶ drifted
 *
 * A change restarts the delivery from any state. `applied` means that the unit has proved the hash.
 */

import type { VersionedConfiguration } from '../configuration-values.ts';
import type { EventOf, KnownEvent } from '../events/catalogue.ts';
import { Refusal } from '../refusal.ts';

/** Command ids that a unit's configuration keeps, so that a repeated command changes nothing. */
const MAX_REMEMBERED_COMMANDS = 16;

export const CONFIGURATION_STATUSES = ['applied', 'pending', 'queued', 'drifted', 'failed', 'rejected'] as const;
export type ConfigurationStatus = (typeof CONFIGURATION_STATUSES)[number];
export type ChangeMode = EventOf<'ConfigurationChanged'>['mode'];

export type ConfigurationState =
  | { readonly status: 'unconfigured' }
  | {
      readonly status: ConfigurationStatus;
      readonly desired: VersionedConfiguration;
      /** Since when it is desired, RFC 3339. */
      readonly desiredSince: string;
      /** How the change was to be sent; undefined for the configuration of the registration. */
      readonly mode?: ChangeMode;
      /** Ids of the last commands that changed it, oldest first. */
      readonly commandIds: readonly string[];
      /** Pushes that failed in a row since the change, or since the unit drifted. */
      readonly attempts: number;
      /** When the last push was answered or failed, RFC 3339. */
      readonly pushedAt?: string;
      /** After a failed push, when the next one is due if the unit is online, RFC 3339. */
      readonly nextAttemptAt?: string;
      /** Why the last push failed, or why the unit refused. */
      readonly reason?: string;
      /** The hash that the unit proved last, and when. */
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

/** The configuration without the outcome of the last push. */
function withoutPushOutcome(state: UnitConfiguration): UnitConfiguration {
  const { reason: _, nextAttemptAt: __, ...rest } = state;
  return { ...rest, attempts: 0 };
}

/** The configuration of a registered unit. @throws Refusal `not-found` */
export function requireConfigured(configuration: ConfigurationState): UnitConfiguration {
  if (configuration.status === 'unconfigured') throw new Refusal('not-found', 'There is no such unit.');
  return configuration;
}

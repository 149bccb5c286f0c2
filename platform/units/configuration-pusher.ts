/** Sends the desired configuration to a unit once, and records the outcome. */

import { requireConfigured } from '../../domain/configuration/configuration.ts';
import { type PushOutcome, recordPushOutcome } from '../../domain/configuration/delivery.ts';
import { requireUnit } from '../../domain/registry/registry.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { CommandAnswer } from '../../domain/unit-protocol/commands.ts';
import type { AppendPriority } from '../event-store/store.ts';
import { COMMAND_TIMEOUT_MS, type UnitCommandClient, UnitUnreachableError } from './unit-command-client.ts';
import type { DecisionResult, UnitDecider } from './unit-decider.ts';

/** A unit refuses a push that is older than this. */
const PUSH_TTL_MS = 30_000;

/** Reasons of a refusal that do not concern the configuration, so that the push is retried. */
const RETRYABLE_REFUSALS: ReadonlySet<string | undefined> = new Set([
  // The unit's clock is ahead, or the push took too long.
  'expired',
  // A unit whose clock is far off also answers this.
  'signature',
  'too-many-commands',
]);

export interface ConfigurationPusherOptions {
  readonly decider: UnitDecider;
  readonly commands: Pick<UnitCommandClient, 'send'>;
  /** Pauses between failed pushes, seconds. The last one repeats. */
  readonly retryScheduleS: readonly number[];
  readonly newId: () => string;
  readonly clock: () => number;
}

export class ConfigurationPusher {
  readonly #options: ConfigurationPusherOptions;

  constructor(options: ConfigurationPusherOptions) {
    this.#options = options;
  }

  /**
   * Sends the desired configuration of `state` to the unit, waits for the answer and records the outcome.
   * @throws StoreUnavailableError when the outcome could not be recorded; the push may be repeated
   */
  async push(
    state: UnitState,
    {
      timeoutMs = COMMAND_TIMEOUT_MS,
      priority = 'interactive',
    }: { readonly timeoutMs?: number; readonly priority?: AppendPriority } = {},
  ): Promise<DecisionResult> {
    const { decider, newId, clock, retryScheduleS } = this.#options;
    const { version } = requireConfigured(state.configuration).desired;
    const commandId = newId();
    const outcome = await this.#send(state, commandId, timeoutMs);
    const meta = { commandId, actor: `unit:${state.name}`, source: '/lockfleet/server', priority };
    return decider.decide(state.name, 'config', meta, (current) =>
      recordPushOutcome(current, { version, outcome, nowMs: clock(), retryScheduleS }),
    );
  }

  async #send(state: UnitState, commandId: string, timeoutMs: number): Promise<PushOutcome> {
    const { commands } = this.#options;
    const applyConfiguration = requireConfigured(state.configuration).desired;
    try {
      const command = { commandId, applyConfiguration };
      return outcomeOf(await commands.send(requireUnit(state.registry), command, { ttlMs: PUSH_TTL_MS, timeoutMs }));
    } catch (error) {
      if (!(error instanceof UnitUnreachableError)) throw error;
      return { answer: 'none', reason: error.message };
    }
  }
}

function outcomeOf({ status, reason, configurationHash }: CommandAnswer): PushOutcome {
  if (status === 'done') return { answer: 'done', hash: configurationHash };
  const why = reason ?? 'the unit does not say why';
  if (status === 'refused' && !RETRYABLE_REFUSALS.has(reason)) return { answer: 'rejected', reason: why };
  return { answer: 'failed', reason: why };
}

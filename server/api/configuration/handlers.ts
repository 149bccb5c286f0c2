/** What operators do with the configuration of one unit: want another one, and see how far it is there. */

import { changeConfiguration, nextPushAtMs } from '../../../domain/configuration/delivery.ts';
import { requireConfigured, type UnitConfiguration } from '../../../domain/configuration/state.ts';
import { isSameHash } from '../../../domain/configuration-values.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import type { ConfigurationPusher } from '../../../platform/units/configuration-pusher.ts';
import type { DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';
import { configurationVersion } from '../../../projections/configuration/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { unitConfiguration } from '../../../projections/units/queries.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem } from '../../http/problems.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import type { ChangeBody, ConfigurationView, RollbackBody } from './schema.ts';

/** How long a unit may take to answer while somebody waits, so that the whole request stays below 5 s. */
export const LIVE_TIMEOUT_MS = 4_000;

export interface ConfigurationDependencies {
  readonly decider: UnitDecider;
  readonly push: ConfigurationPusher;
  readonly positions: ReadPositions;
  readonly readModels: ReadModels;
  readonly clock: () => number;
}

/** A command of an operator on a unit's configuration. */
export interface ConfigurationCommand {
  readonly commandId: string;
  readonly actor: string;
  readonly name: string;
  /** Of `If-Match`. */
  readonly expectedVersion: number | undefined;
}

export class Configurations {
  readonly #deps: ConfigurationDependencies;

  constructor(deps: ConfigurationDependencies) {
    this.#deps = deps;
  }

  /** Wants other values on a unit: recorded first, then sent or left to the queue. */
  async change(
    command: ConfigurationCommand,
    { mode, values, ifOffline }: ChangeBody,
  ): Promise<Answer<ConfigurationView>> {
    const { name, commandId, actor, expectedVersion } = command;
    const meta = { commandId, actor, source: '/lockfleet/server' };
    const wanted = await this.#deps.decider.decide(name, 'config', meta, (state) =>
      changeConfiguration(state, { commandId, values, mode, ifOffline, expectedVersion }),
    );
    // A queued change is an event, and finds the worker by itself.
    const sent = mode === 'live' ? await this.#sendNow(wanted) : wanted;
    const configured = requireConfigured(sent.state.configuration);
    if (mode === 'live' && configured.status === 'rejected') {
      throw new Problem(
        'unit-rejected',
        409,
        `The unit rejected version ${configured.desired.version}: ${configured.reason}.`,
      );
    }
    const status = configured.status === 'applied' ? 200 : 202;
    return { status, body: this.#view(sent.state, configured.reported), position: sent.sequence };
  }

  /** Wants the values of an earlier version again. */
  async rollBack(command: ConfigurationCommand, { version, ...how }: RollbackBody): Promise<Answer<ConfigurationView>> {
    const { decider, positions, readModels } = this.#deps;
    const { sequences } = await decider.getState(command.name);
    // A version that was just made is one, too.
    await positions.reached('configuration', String(sequences.config), command.name);
    const earlier = await configurationVersion(readModels, command.name, version);
    if (earlier === undefined) throw new Problem('not-found', 404, 'There is no such unit, or no such version of it.');
    return this.change(command, { ...how, values: earlier.values });
  }

  /** As the read models know it, with what pings and heartbeats tell. */
  async view(name: string): Promise<ConfigurationView> {
    const known = await unitConfiguration(this.#deps.readModels, name);
    if (known === undefined) throw new Problem('not-found', 404, 'There is no such unit.');
    const { reported } = requireConfigured(known.state.configuration);
    const { report } = known;
    const isNewer = report !== undefined && (reported === undefined || toMs(report.at) > toMs(reported.at));
    return this.#view(known.state, isNewer ? report : reported);
  }

  async #sendNow(wanted: DecisionResult): Promise<DecisionResult> {
    const { connectivity, configuration } = wanted.state;
    const isSent = configuration.status !== 'applied' && connectivity.status === 'online';
    return isSent ? this.#deps.push.push(wanted.state, { timeoutMs: LIVE_TIMEOUT_MS }) : wanted;
  }

  #view(state: UnitState, reported: UnitConfiguration['reported']): ConfigurationView {
    const { desired, status, wantedAt, attempts, pushedAt, reason } = requireConfigured(state.configuration);
    const dueMs = nextPushAtMs(state);
    return {
      unit: state.name,
      desired,
      reported: reported === undefined ? null : { ...reported, hash: wholeHash(reported.hash, desired.hash) },
      status,
      wantedAt,
      attempts,
      nextAttemptAt: dueMs === undefined ? null : toInstant(Math.max(dueMs, this.#deps.clock())),
      lastPushedAt: pushedAt ?? null,
      reason: reason ?? null,
    };
  }
}

/** A ping over UDP says the beginning of a hash only. */
function wholeHash(reported: string, desired: string): string {
  return isSameHash(reported, desired) ? desired : reported;
}

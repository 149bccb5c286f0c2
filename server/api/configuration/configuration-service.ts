/** Changes the desired configuration of a unit for an operator, and shows how far it is delivered. */

import { requireConfigured, type UnitConfiguration } from '../../../domain/configuration/configuration.ts';
import { isSameHash } from '../../../domain/configuration/configuration-hash.ts';
import { changeConfiguration, nextPushAtMs } from '../../../domain/configuration/delivery.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import type { ConfigurationPusher } from '../../../platform/units/configuration-pusher.ts';
import type { DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';
import { configurationVersion } from '../../../projections/configuration/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { unitConfiguration } from '../../../projections/units/queries/units.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem } from '../../http/problems.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import type { ChangeBody, ConfigurationView, RollbackBody } from './schema.ts';

/** How long a unit may take to answer a live change, so that the whole request stays below 5 s. */
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
  /** The version that `If-Match` names. */
  readonly expectedVersion: number | undefined;
}

export class ConfigurationService {
  readonly #deps: ConfigurationDependencies;

  constructor(deps: ConfigurationDependencies) {
    this.#deps = deps;
  }

  /** Records a change, then sends it or leaves it to the queue. @throws Problem `unit-rejected`, and a Refusal */
  async change(
    command: ConfigurationCommand,
    { mode, values, ifOffline }: ChangeBody,
  ): Promise<Answer<ConfigurationView, 200 | 202>> {
    const { name, commandId, actor, expectedVersion } = command;
    const meta = { commandId, actor, source: '/lockfleet/server' };
    const wanted = await this.#deps.decider.decide(name, 'config', meta, (state) =>
      changeConfiguration(state, { commandId, values, mode, ifOffline, expectedVersion }),
    );
    // The configuration worker follows the event of a queued change.
    const sent = mode === 'live' ? await this.#sendNow(wanted) : wanted;
    const configured = requireConfigured(sent.state.configuration);
    if (mode === 'live' && configured.status === 'rejected') {
      throw new Problem(
        'unit-rejected',
        409,
        `Unit ${name} rejected version ${configured.desired.version}: ${configured.reason}. It keeps what it runs.`,
      );
    }
    return {
      status: configured.status === 'applied' ? 200 : 202,
      body: this.#view(sent.state, configured.reported),
      position: sent.sequence,
    };
  }

  /** Makes the values of an earlier version the desired ones. */
  async rollBack(
    command: ConfigurationCommand,
    { version, ...how }: RollbackBody,
  ): Promise<Answer<ConfigurationView, 200 | 202>> {
    const { decider, positions, readModels } = this.#deps;
    const { sequences } = await decider.getState(command.name);
    // A version that was just made can be rolled back to, so the read model has to show it.
    await positions.reached('configuration', String(sequences.config), command.name);
    const earlier = await configurationVersion(readModels, command.name, version);
    if (earlier === undefined) {
      throw new Problem('not-found', 404, `There is no unit ${command.name} with a version ${version}.`);
    }
    return this.change(command, { ...how, values: earlier.values });
  }

  /** The configuration as the read model shows it, with the newest report of pings and heartbeats. */
  async view(name: string): Promise<ConfigurationView> {
    const known = await unitConfiguration(this.#deps.readModels, name);
    if (known === undefined) throw new Problem('not-found', 404, `There is no unit ${name}.`);
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
    const {
      desired,
      status,
      desiredSince: wantedAt,
      attempts,
      pushedAt,
      reason,
    } = requireConfigured(state.configuration);
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

/** A ping over UDP has room for the beginning of a hash only. */
function wholeHash(reported: string, desired: string): string {
  return isSameHash(reported, desired) ? desired : reported;
}

/**
 * Credentials of units that are there: new ones, or none.
 *
 * First it is recorded, then NATS is told. Whoever crashes between the two leaves the rest to a repeat of the request, or to
 * the reactor, which does the same for every event.
 */

import { revokeCredentials, revokedNatsUsers, rotateCredentials } from '../../../domain/registry/registry.ts';
import { RevocationsFullError, type UnitRevocations } from '../../../platform/credentials/revocations.ts';
import { NatsUnavailableError } from '../../../platform/nats/connection.ts';
import { PostgresUnavailableError } from '../../../platform/postgres/connection.ts';
import type { DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem, RETRY_AFTER_S } from '../../http/problems.ts';
import { type IssueDependencies, issueCredentials } from './issue.ts';

export interface CredentialsDependencies extends IssueDependencies {
  readonly decider: UnitDecider;
  readonly revocations: UnitRevocations;
}

/** A command of an operator on a unit's credentials. */
export interface CredentialsCommand {
  readonly commandId: string;
  readonly actor: string;
  readonly name: string;
}

export class UnitCredentials {
  readonly #deps: CredentialsDependencies;

  constructor(deps: CredentialsDependencies) {
    this.#deps = deps;
  }

  /** Gives a unit new credentials, shown only in this answer; the connection that it has with the old ones ends. */
  async rotate({ name, ...command }: CredentialsCommand): Promise<Answer> {
    await this.#requireRevocations();
    const issued = await issueCredentials(this.#deps, name);
    let keyVersion = 0;
    const decided = await this.#decide({ name, ...command }, (registry) => {
      const events = rotateCredentials(registry, issued.natsUser, command.commandId);
      for (const { data } of events) keyVersion = data.keyVersion;
      return events;
    });
    await this.#end(decided);
    const answer = { status: 200, position: decided.sequence };
    // The command was carried out before and its answer got lost: so are the credentials that it showed.
    if (!decided.appended) return { ...answer, body: { name } };
    return { ...answer, body: { name, credentials: issued.shown(keyVersion) }, keptBody: { name } };
  }

  /** Ends a unit's credentials and the connection that it has. */
  async revoke({ name, ...command }: CredentialsCommand, reason: string | undefined): Promise<Answer> {
    await this.#requireRevocations();
    const decided = await this.#decide({ name, ...command }, (registry) => revokeCredentials(registry, reason));
    await this.#end(decided);
    return { status: 200, body: { name }, position: decided.sequence };
  }

  #decide(
    { name, ...command }: CredentialsCommand,
    decision: (registry: DecisionResult['state']['registry']) => ReturnType<typeof revokeCredentials>,
  ): Promise<DecisionResult> {
    const meta = { ...command, source: '/lockfleet/server' };
    return this.#deps.decider.decide(name, 'registry', meta, ({ registry }) => decision(registry));
  }

  /** Before anything is recorded: what cannot take effect now is not begun. */
  async #requireRevocations(): Promise<void> {
    try {
      await this.#deps.revocations.ready();
    } catch (error) {
      throw fullProblem(error) ?? error;
    }
  }

  async #end({ state }: DecisionResult): Promise<void> {
    try {
      await this.#deps.revocations.ensure(revokedNatsUsers(state.registry));
    } catch (error) {
      const full = fullProblem(error);
      if (full !== undefined) throw full;
      if (!(error instanceof NatsUnavailableError || error instanceof PostgresUnavailableError)) throw error;
      throw new Problem('unavailable', 503, 'It is recorded, and NATS could not be told yet. Send it again.', {
        retryAfterS: RETRY_AFTER_S,
      });
    }
  }
}

/** Nothing that a repeat mends: no `Retry-After`. */
function fullProblem(error: unknown): Problem | undefined {
  if (!(error instanceof RevocationsFullError)) return undefined;
  return new Problem('unavailable', 503, `No more credentials can be ended: ${error.message}.`);
}

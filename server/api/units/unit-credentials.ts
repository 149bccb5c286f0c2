/**
 * Rotates and revokes the credentials of registered units.
 *
 * The event is recorded first; then NATS ends the connections of the previous NATS user. When the server crashes in between, a
 * repeat of the request ends them, or the reactor, which does so for every such event.
 */

import { revokeCredentials, revokedNatsUsers, rotateCredentials } from '../../../domain/registry/registry.ts';
import { RevocationsFullError, type UnitRevocations } from '../../../platform/credentials/revocations.ts';
import { NatsUnavailableError } from '../../../platform/nats/connection.ts';
import { PostgresUnavailableError } from '../../../platform/postgres/connection.ts';
import type { DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem, RETRY_AFTER_S } from '../../http/problems.ts';
import { type IssueDependencies, issueCredentials, type RegisteredUnit } from './issue-credentials.ts';

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

  /** Issues new credentials, which only this answer shows, and ends the connection that the unit has with the previous ones. */
  async rotate({ name, ...command }: CredentialsCommand): Promise<Answer<RegisteredUnit, 200>> {
    await this.requireRevocations();
    const issued = await issueCredentials(this.#deps, name);
    let keyVersion = 0;
    const decided = await this.#decide({ name, ...command }, (registry) => {
      const events = rotateCredentials(registry, issued.natsUser, command.commandId);
      for (const { data } of events) keyVersion = data.keyVersion;
      return events;
    });
    await this.revokeEnded(decided);
    const answer = { status: 200 as const, position: decided.sequence };
    // The command rotated the credentials before, and its answer was lost; only that answer could show them.
    if (!decided.appended) return { ...answer, body: { name } };
    return { ...answer, body: { name, credentials: issued.show(keyVersion) }, keptBody: { name } };
  }

  /** Ends a unit's credentials and the connection that it has. */
  async revoke(
    { name, ...command }: CredentialsCommand,
    reason: string | undefined,
  ): Promise<Answer<{ readonly name: string }, 200>> {
    await this.requireRevocations();
    const decided = await this.#decide({ name, ...command }, (registry) => revokeCredentials(registry, reason));
    await this.revokeEnded(decided);
    return { status: 200, body: { name }, position: decided.sequence };
  }

  #decide(
    { name, ...command }: CredentialsCommand,
    decision: (registry: DecisionResult['state']['registry']) => ReturnType<typeof revokeCredentials>,
  ): Promise<DecisionResult> {
    const meta = { ...command, source: '/lockfleet/server' };
    return this.#deps.decider.decide(name, 'registry', meta, ({ registry }) => decision(registry));
  }

  /** Refuses the request before anything is recorded when NATS cannot revoke a user now. */
  async requireRevocations(): Promise<void> {
    try {
      await this.#deps.revocations.ready();
    } catch (error) {
      throw revocationsFullProblem(error) ?? error;
    }
  }

  /** Ends the connections of a unit with credentials that have ended. @throws Problem `unavailable` */
  async revokeEnded({ state }: DecisionResult): Promise<void> {
    try {
      await this.#deps.revocations.ensure(revokedNatsUsers(state.registry));
    } catch (error) {
      const full = revocationsFullProblem(error);
      if (full !== undefined) throw full;
      if (!(error instanceof NatsUnavailableError || error instanceof PostgresUnavailableError)) throw error;
      throw new Problem(
        'unavailable',
        503,
        `The change is recorded, but NATS could not end the connection of unit ${state.name} yet. Send the request again.`,
        { retryAfterS: RETRY_AFTER_S },
      );
    }
  }
}

/** A problem without `Retry-After`: a repeat of the request cannot succeed. */
function revocationsFullProblem(error: unknown): Problem | undefined {
  if (!(error instanceof RevocationsFullError)) return undefined;
  return new Problem('unavailable', 503, `The credentials cannot be ended: ${error.message}.`);
}

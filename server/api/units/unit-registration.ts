/** Registers units: one in a request, or many as a stream of lines. */

import { Value } from '@sinclair/typebox/value';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { fieldErrorsOf } from '../../../domain/field-errors.ts';
import { registerUnit } from '../../../domain/registry/registry.ts';
import { formerUnitOf } from '../../../domain/unit/unit-use.ts';
import type { AddressResolver } from '../../../platform/network/address-resolver.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { INTERNAL_DETAIL, Problem, problemOf } from '../../http/problems.ts';
import { parseJson, readLines } from '../../http/request-body.ts';
import { requireStorableTexts } from '../../http/storable-text.ts';
import { type IssueDependencies, issueCredentials, type RegisteredUnit } from './issue-credentials.ts';
import { requireUsableAddress, TimeZones } from './place-checks.ts';
import { Registration } from './schema.ts';

/** The largest number of lines of one import that are registered at the same time. */
const MAX_CONCURRENT_LINES = 256;

export interface RegistrationDependencies extends IssueDependencies {
  readonly decider: UnitDecider;
  readonly addresses: AddressResolver;
  readonly holdTtlS: number;
  readonly newId: () => string;
  readonly log: Log;
}

export class UnitRegistration {
  readonly #deps: RegistrationDependencies;
  readonly #timeZones = new TimeZones();

  constructor(deps: RegistrationDependencies) {
    this.#deps = deps;
  }

  /**
   * Registers a unit and issues its credentials, which only this answer shows.
   * @throws Problem `validation` for a time zone or an address that cannot be used
   */
  async register(commandId: string, actor: string, registration: Registration): Promise<Answer<RegisteredUnit, 201>> {
    const { decider, holdTtlS, addresses } = this.#deps;
    this.#timeZones.require(registration.timeZone);
    await requireUsableAddress(registration.address, addresses);
    const { name } = registration;
    const { natsUser, show } = await issueCredentials(this.#deps, name);
    const unit = { displayName: name, tags: [], ...registration };
    const configuration = defaultConfiguration(holdTtlS);
    const meta = { commandId, actor, source: '/lockfleet/server' };
    let keyVersion = 0;
    const decided = await decider.decide(name, 'registry', meta, (state) => {
      const events = registerUnit(state.registry, { ...unit, configuration, natsUser }, commandId, formerUnitOf(state));
      for (const { data } of events) keyVersion = data.keyVersion;
      return events;
    });
    const position = decided.sequence;
    // The command registered the unit before, and its answer was lost; only that answer could show the credentials.
    if (!decided.appended) return { status: 201, body: { name }, position };
    const credentials = show(keyVersion);
    return { status: 201, body: { name, credentials }, keptBody: { name }, position };
  }

  /** Registers one unit for each line, and yields one line for each in the same order: its credentials or its problem. */
  async *import(actor: string, request: Request): AsyncGenerator<string> {
    const pending: Promise<string>[] = [];
    try {
      for await (const line of readLines(request)) {
        pending.push(this.#importLine(actor, line));
        const first = pending.length >= MAX_CONCURRENT_LINES ? pending.shift() : undefined;
        if (first !== undefined) yield await first;
      }
    } catch (error) {
      pending.push(Promise.resolve(this.#problemLine(undefined, error)));
    }
    for (const line of pending) yield await line;
  }

  async #importLine(actor: string, line: string): Promise<string> {
    let name: string | undefined;
    try {
      const registration = parseJson(line);
      requireStorableTexts(registration);
      name = nameIn(registration);
      if (!Value.Check(Registration, registration)) {
        throw new Problem(
          'validation',
          422,
          'The line is not a valid registration. `errors` names each field and what is wrong with it.',
          {
            errors: fieldErrorsOf(Value.Errors(Registration, registration)),
          },
        );
      }
      const { body } = await this.register(this.#deps.newId(), actor, registration);
      return `${JSON.stringify(body)}\n`;
    } catch (error) {
      return this.#problemLine(name, error);
    }
  }

  /** The answer to a line that failed. It must not throw: its promise is not awaited once the client has disconnected. */
  #problemLine(name: string | undefined, error: unknown): string {
    const problem = problemOf(error);
    if (problem === undefined) this.#deps.log.error('a unit could not be imported', { unit: name, error });
    const { document } = problem ?? new Problem('internal', 500, INTERNAL_DETAIL);
    return `${JSON.stringify({ name: name ?? null, problem: document })}\n`;
  }
}

function nameIn(registration: unknown): string | undefined {
  if (typeof registration !== 'object' || registration === null || !('name' in registration)) return undefined;
  return typeof registration.name === 'string' ? registration.name : undefined;
}

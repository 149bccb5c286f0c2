/** Units join the platform: one at a time, or many as a stream of lines. */

import { Value } from '@sinclair/typebox/value';
import { defaultConfiguration } from '../../../domain/configuration-values.ts';
import { fieldErrorsOf } from '../../../domain/field-errors.ts';
import { registerUnit } from '../../../domain/registry/registry.ts';
import type { AddressResolver } from '../../../platform/network/address-resolver.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { parseJson, readLines } from '../../http/body.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { invalidField, Problem, problemOf, RETRY_AFTER_S } from '../../http/problems.ts';
import { type IssueDependencies, issueCredentials } from './issue.ts';
import { Registration } from './schema.ts';

/** Lines of an import that are worked on at the same moment. */
const MAX_IMPORTS_UNDER_WAY = 256;
const FIRST_KEY_VERSION = 1;
/** Upper and lower case make many spellings of each. */
const MAX_KNOWN_TIME_ZONES = 1_000;

export interface RegisterDependencies extends IssueDependencies {
  readonly decider: UnitDecider;
  readonly addresses: AddressResolver;
  readonly holdTtlS: number;
  readonly newId: () => string;
  readonly log: Log;
}

export class UnitRegistration {
  readonly #deps: RegisterDependencies;

  constructor(deps: RegisterDependencies) {
    this.#deps = deps;
  }

  /** Registers a unit and makes its credentials, which are shown only in this answer. */
  async register(commandId: string, actor: string, registration: Registration): Promise<Answer> {
    const { decider, holdTtlS, addresses } = this.#deps;
    checkTimeZone(registration);
    await checkAddress(registration, addresses);
    const { name } = registration;
    const { natsUser, shown } = await issueCredentials(this.#deps, name);
    const unit = { displayName: name, tags: [], ...registration };
    const configuration = defaultConfiguration(holdTtlS);
    const meta = { commandId, actor, source: '/lockfleet/server' };
    const decided = await decider.decide(name, 'registry', meta, (state) =>
      registerUnit(state.registry, { ...unit, configuration, keyVersion: FIRST_KEY_VERSION, natsUser }, commandId),
    );
    const position = decided.sequence;
    // The command was carried out before and its answer got lost: so are the credentials that it showed.
    if (!decided.appended) return { status: 201, body: { name }, position };
    const credentials = shown(FIRST_KEY_VERSION);
    return { status: 201, body: { name, credentials }, keptBody: { name }, position };
  }

  /** Registers a unit a line; answers a line for each, in order, with the credentials or the problem. */
  async *import(actor: string, request: Request): AsyncGenerator<string> {
    const underWay: Promise<string>[] = [];
    try {
      for await (const line of readLines(request)) {
        underWay.push(this.#importLine(actor, line));
        const first = underWay.length >= MAX_IMPORTS_UNDER_WAY ? underWay.shift() : undefined;
        if (first !== undefined) yield await first;
      }
    } catch (error) {
      underWay.push(Promise.resolve(this.#problemLine(undefined, error)));
    }
    for (const line of underWay) yield await line;
  }

  async #importLine(actor: string, line: string): Promise<string> {
    let name: string | undefined;
    try {
      const registration = parseJson(line);
      name = nameIn(registration);
      if (!Value.Check(Registration, registration)) {
        throw new Problem('validation', 422, 'The line is not valid.', {
          errors: fieldErrorsOf(Value.Errors(Registration, registration)),
        });
      }
      const { body } = await this.register(this.#deps.newId(), actor, registration);
      return `${JSON.stringify(body)}\n`;
    } catch (error) {
      return this.#problemLine(name, error);
    }
  }

  /** What became of a line that failed. Whoever sent it may have left: nobody waits for an error that is thrown here. */
  #problemLine(name: string | undefined, error: unknown): string {
    const problem = problemOf(error);
    if (problem === undefined) this.#deps.log.error('a unit could not be imported', { unit: name, error });
    const { document } =
      problem ?? new Problem('unavailable', 500, 'Something went wrong on our side. It has been noted.');
    return `${JSON.stringify({ name: name ?? null, problem: document })}\n`;
  }
}

/** Time zones that are there: to ask takes longer than anything else in an import, and there are few hundred. */
const knownTimeZones = new Set<string>();

function checkTimeZone({ timeZone }: Registration): void {
  if (knownTimeZones.has(timeZone)) return;
  try {
    new Intl.DateTimeFormat('en', { timeZone });
  } catch {
    throw invalidField('/timeZone', 'is not an IANA time zone');
  }
  if (knownTimeZones.size < MAX_KNOWN_TIME_ZONES) knownTimeZones.add(timeZone);
}

/** Where nobody may be asked, or nobody can be, no unit is registered. */
async function checkAddress({ address }: Registration, addresses: AddressResolver): Promise<void> {
  const resolved = await addresses.resolve(address);
  if (!('problem' in resolved)) return;
  if (resolved.problem !== 'unavailable') throw invalidField('/address', resolved.message);
  throw new Problem('unavailable', 503, `The address ${resolved.message}.`, { retryAfterS: RETRY_AFTER_S });
}

function nameIn(registration: unknown): string | undefined {
  if (typeof registration !== 'object' || registration === null || !('name' in registration)) return undefined;
  return typeof registration.name === 'string' ? registration.name : undefined;
}

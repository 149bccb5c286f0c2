/**
 * Registers the units of a fleet at the platform. Units without credentials are imported in chunks, and the credentials
 * of each unit are stored as soon as its line of the answer arrives, since the platform shows them only once.
 */

import { type Static, Type } from '@sinclair/typebox';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/timers.ts';
import type { PlannedUnit } from '../plan/fleet-plan.ts';
import { Credentials } from '../unit/credentials.ts';
import { CredentialRecovery } from './credential-recovery.ts';
import type { PlatformApi } from './platform-api.ts';
import {
  describeProblem,
  linesOf,
  PlatformClient,
  PlatformUnavailableError,
  Problem,
  parseAs,
  quoted,
  requestError,
} from './platform-client.ts';
import type { UnitChannels } from './unit-channels.ts';

/** Most units in one import. */
const MAX_UNITS_PER_IMPORT = 500;
const IMPORT_TIMEOUT_MS = 60_000;
/** The wait before the next request to a platform that does not answer, such as one that is starting. */
const RETRY_MS = 250;
const RETRIES_BETWEEN_LOG_LINES = 40;
/** The wait before the simulator registers refused units again. An operator may have corrected the cause meanwhile. */
const REFUSED_RETRY_MS = 30_000;
/** Most refused units that a run logs, of the thousands that it may have. */
const MAX_REFUSALS_LOGGED = 20;
const SERVER_ERROR = 500;

export interface RegistrationDependencies {
  readonly platform: PlatformApi;
  readonly channels: UnitChannels;
  readonly timers: Timers;
  readonly log: Log;
  /** @default IMPORT_TIMEOUT_MS */
  readonly importTimeoutMs?: number;
}

interface Candidate {
  readonly plan: PlannedUnit;
  readonly unit: EmulatedUnit;
}

const ImportLine = Type.Object({
  name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  credentials: Type.Optional(Credentials),
  problem: Type.Optional(Problem),
});

export class FleetRegistration {
  readonly #deps: RegistrationDependencies;
  readonly #client: PlatformClient;
  readonly #recovery: CredentialRecovery;
  /** Why the platform refuses a unit, by the name of the unit. */
  readonly problems = new Map<string, string>();
  readonly #abort = new AbortController();
  #refusalsLogged = 0;

  constructor(deps: RegistrationDependencies) {
    this.#deps = deps;
    this.#client = new PlatformClient(deps.platform, this.#abort.signal);
    this.#recovery = new CredentialRecovery({
      client: this.#client,
      channels: deps.channels,
      log: deps.log,
      onRecovered: (unit) => this.problems.delete(unit.name),
      onRefused: (unit, reason) => this.#recordRefusal(unit, reason),
    });
  }

  /** Ends `run`, also in the middle of a request. */
  stop(): void {
    this.#abort.abort();
  }

  /**
   * Retries until every unit has credentials. Resolves then, or when it is stopped.
   * @throws RegistrationRefusedError when a retry cannot help: the platform refuses the token of the simulator or the whole import,
   *   or the simulator has lost the credentials of too many units
   */
  async run(candidates: readonly Candidate[]): Promise<void> {
    const { timers } = this.#deps;
    for (let attempt = 1; !this.#abort.signal.aborted; attempt++) {
      const unregistered = candidates.filter(({ unit }) => unit.credentials === undefined);
      if (unregistered.length === 0) return;
      try {
        await this.#register(unregistered);
        const refused = unregistered.filter(({ unit }) => unit.credentials === undefined).length;
        if (refused === unregistered.length) await timers.pause(REFUSED_RETRY_MS);
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        if (!(error instanceof PlatformUnavailableError)) throw error;
        this.#logWait(attempt, unregistered.length, error.message);
        await timers.pause(RETRY_MS);
      }
    }
  }

  /** The first line is routine, since a platform that starts with the simulator answers seconds later. */
  #logWait(attempt: number, unregistered: number, cause: string): void {
    if (attempt % RETRIES_BETWEEN_LOG_LINES !== 1) return;
    const { log } = this.#deps;
    const message = `The simulator waits for the platform at ${this.#client.url} to register its units.`;
    const fields = { unregistered, cause };
    if (attempt === 1) log.info(message, fields);
    else log.warn(message, fields);
  }

  async #register(unregistered: readonly Candidate[]): Promise<void> {
    const known: EmulatedUnit[] = [];
    for (let start = 0; start < unregistered.length && !this.#abort.signal.aborted; start += MAX_UNITS_PER_IMPORT) {
      known.push(...(await this.#import(unregistered.slice(start, start + MAX_UNITS_PER_IMPORT))));
    }
    await this.#recovery.recover(known);
    const registered = unregistered.filter(({ unit }) => unit.credentials !== undefined).length;
    if (registered > 0) this.#deps.log.info('The platform has registered units.', { units: registered });
  }

  /** @returns the units that the platform has registered already, and whose credentials the simulator does not have */
  async #import(chunk: readonly Candidate[]): Promise<EmulatedUnit[]> {
    const { channels, importTimeoutMs: timeoutMs = IMPORT_TIMEOUT_MS } = this.#deps;
    const lines = chunk.map(({ plan, unit }) => {
      // A unit that was created with other settings has the lockers of its store, and not those of the plan.
      const lockers = unit.model.lockers.map(({ id, size }) => ({ id, size }));
      return `${JSON.stringify({ ...plan, lockers, address: unit.address, ...channels })}\n`;
    });
    const response = await this.#client.send({
      method: 'POST',
      path: '/v1/units/import',
      timeoutMs,
      body: lines.join(''),
      contentType: 'application/x-ndjson',
    });
    if (!response.ok || response.body === null) throw await requestError(response, 'The import', this.#client.url);
    const known: EmulatedUnit[] = [];
    let index = 0;
    // An error in one line must not skip the lines after it, because the platform shows their credentials only once.
    let unavailable: string | undefined;
    for await (const line of linesOf(response.body)) {
      const candidate = chunk[index];
      index += 1;
      if (candidate === undefined) break;
      const answer = await this.#applyImportLine(candidate.unit, line);
      if (answer === 'known') known.push(candidate.unit);
      else if (typeof answer === 'object') unavailable = answer.unavailable;
    }
    if (unavailable !== undefined) throw new PlatformUnavailableError(unavailable);
    if (index < chunk.length) throw new PlatformUnavailableError('The connection broke off during the import.');
    return known;
  }

  async #applyImportLine(
    unit: EmulatedUnit,
    line: string,
  ): Promise<'registered' | 'known' | 'refused' | { readonly unavailable: string }> {
    const answer = parseAs(ImportLine, line);
    const status = answer?.problem?.status ?? 0;
    if (status >= SERVER_ERROR) return { unavailable: `The import answered ${describeProblem(answer?.problem)}.` };
    if (answer?.credentials !== undefined) {
      this.problems.delete(unit.name);
      await unit.setCredentials(answer.credentials);
      return 'registered';
    }
    if (isNameTaken(answer?.problem)) return 'known';
    this.#recordRefusal(
      unit,
      answer === undefined
        ? `the platform's answer cannot be read: ${quoted(line)}`
        : `the platform refused it: ${describeProblem(answer.problem)}`,
    );
    return 'refused';
  }

  #recordRefusal(unit: EmulatedUnit, reason: string): void {
    if (this.problems.get(unit.name) === reason) return;
    this.problems.set(unit.name, reason);
    this.#refusalsLogged += 1;
    if (this.#refusalsLogged <= MAX_REFUSALS_LOGGED) {
      this.#deps.log.error(`${unit.name} cannot be registered: ${reason}`);
    } else if (this.#refusalsLogged === MAX_REFUSALS_LOGGED + 1) {
      this.#deps.log.error(
        'Further units cannot be registered. They are not logged; GET /readyz of the simulator counts them.',
      );
    }
  }
}

/** Whether a unit of this name is registered. The names of simulated units are valid, so that nothing else is wrong with one. */
function isNameTaken(problem: Static<typeof Problem> | undefined): boolean {
  return problem?.type === '/problems/validation' && problem.errors?.some(({ path }) => path === '/name') === true;
}

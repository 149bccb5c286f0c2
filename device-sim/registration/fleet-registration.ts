/**
 * Registers the units of a fleet at the platform. Units without credentials are imported in chunks, and the credentials
 * of each unit are stored as soon as its line of the answer arrives, since the platform shows them only once.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/timers.ts';
import type { PlannedUnit } from '../plan/fleet-plan.ts';
import { Credentials } from '../unit/credentials.ts';
import { type PlatformApi, RegistrationRefusedError } from './platform-api.ts';

/** Most units in one import. */
const MAX_UNITS_PER_IMPORT = 500;
const IMPORT_TIMEOUT_MS = 60_000;
const ROTATE_TIMEOUT_MS = 10_000;
/** The wait before the next request to a platform that does not answer, such as one that is starting. */
const RETRY_MS = 250;
const RETRIES_BETWEEN_LOG_LINES = 40;
/** The wait before the simulator registers refused units again. An operator may have corrected the cause meanwhile. */
const REFUSED_RETRY_MS = 30_000;
const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const CONFLICT = 409;
const SERVER_ERROR = 500;
/** Longest part of an answer that an error text quotes. */
const MAX_QUOTED_LENGTH = 200;

/** How the platform reaches a unit, and how the unit delivers its events; one choice for a whole fleet. */
export interface UnitChannels {
  readonly probe: 'udp' | 'http' | 'nats';
  readonly delivery: 'push' | 'fetch';
  readonly commandChannel: 'http' | 'nats';
}

export interface RegistrationDependencies {
  readonly platform: PlatformApi;
  readonly channels: UnitChannels;
  readonly timers: Timers;
  readonly log: Log;
}

interface Candidate {
  readonly plan: PlannedUnit;
  readonly unit: EmulatedUnit;
}

const Problem = Type.Object({
  type: Type.Optional(Type.String()),
  status: Type.Optional(Type.Integer()),
  detail: Type.Optional(Type.String()),
  errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
});
const ImportLine = Type.Object({
  name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  credentials: Type.Optional(Credentials),
  problem: Type.Optional(Problem),
});
const RotateAnswer = Type.Object({ credentials: Credentials });

/** The platform does not answer, or cannot execute the request now. The error is retryable. */
class PlatformUnavailableError extends Error {
  override readonly name = 'PlatformUnavailableError';
}

export class FleetRegistration {
  readonly #deps: RegistrationDependencies;
  /** Why the platform refuses a unit, by the name of the unit. */
  readonly problems = new Map<string, string>();
  readonly #abort = new AbortController();

  constructor(deps: RegistrationDependencies) {
    this.#deps = deps;
  }

  /** Ends `run`, also in the middle of a request. */
  stop(): void {
    this.#abort.abort();
  }

  /**
   * Retries until every unit has credentials. Resolves then, or when it is stopped.
   * @throws RegistrationRefusedError when the platform refuses the simulator's token
   */
  async run(candidates: readonly Candidate[]): Promise<void> {
    const { timers, log } = this.#deps;
    for (let attempt = 1; !this.#abort.signal.aborted; attempt++) {
      const unregistered = candidates.filter(({ unit }) => unit.credentials === undefined);
      if (unregistered.length === 0) return;
      try {
        await this.#register(unregistered);
        const refused = unregistered.filter(({ unit }) => unit.credentials === undefined).length;
        if (refused === unregistered.length) await timers.pause(REFUSED_RETRY_MS);
      } catch (error) {
        if (!(error instanceof PlatformUnavailableError)) throw error;
        if (this.#abort.signal.aborted) return;
        if (attempt % RETRIES_BETWEEN_LOG_LINES === 1) {
          log.info(`The simulator waits for the platform at ${this.#deps.platform.url} to register its units.`, {
            unregistered: unregistered.length,
            cause: error.message,
          });
        }
        await timers.pause(RETRY_MS);
      }
    }
  }

  async #register(unregistered: readonly Candidate[]): Promise<void> {
    for (let start = 0; start < unregistered.length && !this.#abort.signal.aborted; start += MAX_UNITS_PER_IMPORT) {
      await this.#import(unregistered.slice(start, start + MAX_UNITS_PER_IMPORT));
    }
    const registered = unregistered.filter(({ unit }) => unit.credentials !== undefined).length;
    if (registered > 0) this.#deps.log.info('The platform has registered units.', { units: registered });
  }

  async #import(chunk: readonly Candidate[]): Promise<void> {
    const { channels } = this.#deps;
    const body = chunk.map(({ plan, unit }) => `${JSON.stringify({ ...plan, address: unit.address, ...channels })}\n`);
    const response = await this.#post('/v1/units/import', IMPORT_TIMEOUT_MS, body.join(''), 'application/x-ndjson');
    if (!response.ok || response.body === null) throw await importError(response, this.#deps.platform.url);
    let index = 0;
    // An error in one line must not skip the lines after it, because the platform shows their credentials only once.
    let unavailable: string | undefined;
    for await (const line of linesOf(response.body)) {
      const candidate = chunk[index];
      index += 1;
      if (candidate === undefined) break;
      unavailable = (await this.#applyImportLine(candidate, line)) ?? unavailable;
    }
    if (unavailable !== undefined) throw new PlatformUnavailableError(unavailable);
    if (index < chunk.length) throw new PlatformUnavailableError('The connection broke off during the import.');
  }

  /** @returns why the platform cannot register the unit now; undefined when a retry cannot change the outcome */
  async #applyImportLine({ unit }: Candidate, line: string): Promise<string | undefined> {
    const answer = parseAs(ImportLine, line);
    const status = answer?.problem?.status ?? 0;
    if (status >= SERVER_ERROR) return `The import answered ${describeProblem(answer?.problem)}.`;
    if (answer === undefined) {
      this.#recordRefusal(unit, `the platform's answer cannot be read: ${line.slice(0, MAX_QUOTED_LENGTH)}`);
    } else if (answer.credentials !== undefined) {
      this.problems.delete(unit.name);
      await unit.setCredentials(answer.credentials);
    } else if (status === CONFLICT) await this.#rotateCredentials(unit);
    else this.#recordRefusal(unit, `the platform refused it: ${describeProblem(answer.problem)}`);
    return undefined;
  }

  /** Gets new credentials for a unit that the platform has registered and whose credentials the simulator's store has lost. */
  async #rotateCredentials(unit: EmulatedUnit): Promise<void> {
    const path = `/v1/units/${encodeURIComponent(unit.name)}/credentials/rotate`;
    const response = await this.#post(path, ROTATE_TIMEOUT_MS, '{}', 'application/json');
    const rotated = parseAs(RotateAnswer, await textOf(response));
    if (response.ok && rotated !== undefined) {
      this.problems.delete(unit.name);
      this.#deps.log.warn(
        'The platform has this unit registered, and the simulator had lost its credentials. The simulator has rotated them.',
        { unit: unit.name },
      );
      return unit.setCredentials(rotated.credentials);
    }
    this.#recordRefusal(
      unit,
      'the platform has it registered, this simulator has lost its credentials, and rotating them answered ' +
        `${response.status}; choose another seed (SIM_SEED), or restore the store of the simulator`,
    );
  }

  #recordRefusal(unit: EmulatedUnit, reason: string): void {
    if (this.problems.get(unit.name) === reason) return;
    this.problems.set(unit.name, reason);
    this.#deps.log.error(`${unit.name} cannot be registered: ${reason}`);
  }

  async #post(path: string, timeoutMs: number, body: string, contentType: string): Promise<Response> {
    const { url, opsToken } = this.#deps.platform;
    const token = await opsToken();
    try {
      return await fetch(`${url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': contentType },
        body,
        signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#abort.signal]),
        keepalive: false,
      });
    } catch (error) {
      throw new PlatformUnavailableError(errorMessage(error), { cause: error });
    }
  }
}

async function importError(response: Response, url: string): Promise<Error> {
  const { status } = response;
  const answer = (await textOf(response)).slice(0, MAX_QUOTED_LENGTH);
  if (status === UNAUTHORIZED || status === FORBIDDEN) {
    return new RegistrationRefusedError(
      `The platform at ${url} answered ${status} to the token with which the simulator registers its units, so none is ` +
        'registered. The simulator and the platform use different keys: start the simulator with the DATA_DIR or the ' +
        `AUTH_JWT_SECRET of the platform. The answer was: ${answer}`,
    );
  }
  return new PlatformUnavailableError(`The import answered ${status} ${answer}`);
}

async function textOf(response: Response): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new PlatformUnavailableError('The connection broke off during an answer.', { cause: error });
  }
}

/** The lines of a body as they arrive. @throws PlatformUnavailableError when the connection breaks off */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.trim() !== '') yield line;
    }
  } catch (error) {
    throw new PlatformUnavailableError('The connection broke off during the import.', { cause: error });
  }
  if (rest.trim() !== '') yield rest;
}

function parseAs<S extends typeof ImportLine | typeof RotateAnswer>(schema: S, text: string): Static<S> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(schema, value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function describeProblem(problem: Static<typeof Problem> | undefined): string {
  const fields = (problem?.errors ?? []).map(({ path, message }) => `${path} ${message}`).join(', ');
  return [problem?.type, problem?.detail, fields].filter((part) => part !== undefined && part !== '').join(' · ');
}

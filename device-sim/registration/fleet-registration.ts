/**
 * Brings the fleet to the platform: units without credentials are registered in chunks, and what each gets is stored line
 * by line as it arrives. It goes on until every unit has credentials or a reason why it cannot have any.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { Timers } from '../environment/clock.ts';
import type { PlannedUnit } from '../plan/fleet-plan.ts';
import { Credentials } from '../unit/credentials.ts';

/** Units in one import. */
const MAX_UNITS_PER_IMPORT = 500;
const IMPORT_TIMEOUT_MS = 60_000;
const ROTATE_TIMEOUT_MS = 10_000;
/** The platform may still be starting. */
const RETRY_MS = 250;
const RETRIES_BETWEEN_REPORTS = 40;
/** A unit that the platform refuses is tried again this much later: somebody may have put it right. */
const REFUSED_RETRY_MS = 30_000;
const CONFLICT = 409;
const SERVER_ERROR = 500;

/** How a unit is reached and reaches the platform; the same for a whole fleet. */
export interface UnitChannels {
  readonly probe: 'udp' | 'http' | 'nats';
  readonly delivery: 'push' | 'fetch';
  readonly commandChannel: 'http' | 'nats';
}

export interface PlatformApi {
  /** Such as `http://127.0.0.1:3000`. */
  readonly url: string;
  /** A token with the role `ops`. */
  readonly opsToken: () => Promise<string>;
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
const Rotated = Type.Object({ credentials: Credentials });

/** The platform cannot be asked now. */
class PlatformUnavailableError extends Error {
  override readonly name = 'PlatformUnavailableError';
}

export class FleetRegistration {
  readonly #deps: RegistrationDependencies;
  /** Why units are not registered, by name. */
  readonly problems = new Map<string, string>();
  readonly #stop = new AbortController();

  constructor(deps: RegistrationDependencies) {
    this.#deps = deps;
  }

  /** Breaks off what it is doing. */
  stop(): void {
    this.#stop.abort();
  }

  /** Returns when every unit is registered, or it was stopped. */
  async run(candidates: readonly Candidate[]): Promise<void> {
    const { timers, log } = this.#deps;
    for (let attempt = 1; !this.#stop.signal.aborted; attempt++) {
      const missing = candidates.filter(({ unit }) => unit.credentials === undefined);
      if (missing.length === 0) return;
      try {
        await this.#register(missing);
        const left = missing.filter(({ unit }) => unit.credentials === undefined).length;
        if (left > 0 && left === missing.length) await timers.pause(REFUSED_RETRY_MS);
      } catch (error) {
        if (!(error instanceof PlatformUnavailableError)) throw error;
        if (this.#stop.signal.aborted) return;
        if (attempt % RETRIES_BETWEEN_REPORTS === 1) log.info('waiting for the platform', { why: error.message });
        await timers.pause(RETRY_MS);
      }
    }
  }

  async #register(missing: readonly Candidate[]): Promise<void> {
    for (let start = 0; start < missing.length && !this.#stop.signal.aborted; start += MAX_UNITS_PER_IMPORT) {
      await this.#import(missing.slice(start, start + MAX_UNITS_PER_IMPORT));
    }
    const registered = missing.filter(({ unit }) => unit.credentials !== undefined).length;
    if (registered > 0) this.#deps.log.info('units registered', { units: registered });
  }

  async #import(chunk: readonly Candidate[]): Promise<void> {
    const { channels } = this.#deps;
    const body = chunk.map(({ plan, unit }) => `${JSON.stringify({ ...plan, address: unit.address, ...channels })}\n`);
    const response = await this.#post('/v1/units/import', IMPORT_TIMEOUT_MS, body.join(''), 'application/x-ndjson');
    if (!response.ok || response.body === null) throw await unavailableAnswer(response);
    let index = 0;
    // Every line is read before anything is tried again: credentials are shown only once.
    let unavailable: string | undefined;
    for await (const line of lines(response.body)) {
      const candidate = chunk[index];
      index += 1;
      if (candidate === undefined) break;
      unavailable = (await this.#take(candidate, line)) ?? unavailable;
    }
    if (unavailable !== undefined) throw new PlatformUnavailableError(unavailable);
    if (index < chunk.length) throw new PlatformUnavailableError('the answer to the import broke off');
  }

  /** @returns why the platform could not do it now, if that is what it says */
  async #take({ unit }: Candidate, line: string): Promise<string | undefined> {
    const answer = parse(ImportLine, line);
    const status = answer?.problem?.status ?? 0;
    if (status >= SERVER_ERROR) return `the import answered ${describeProblem(answer?.problem)}`;
    if (answer === undefined) this.#refuse(unit, `the platform answered something else: ${line.slice(0, 200)}`);
    else if (answer.credentials !== undefined) {
      this.problems.delete(unit.name);
      await unit.setCredentials(answer.credentials);
    } else if (status === CONFLICT) await this.#rotate(unit);
    else this.#refuse(unit, `the platform refused it: ${describeProblem(answer.problem)}`);
    return undefined;
  }

  /** The platform knows the unit, and this store has no credentials for it: it gets new ones, if that is possible. */
  async #rotate(unit: EmulatedUnit): Promise<void> {
    const path = `/v1/units/${encodeURIComponent(unit.name)}/credentials/rotate`;
    const response = await this.#post(path, ROTATE_TIMEOUT_MS, '{}', 'application/json');
    const rotated = parse(Rotated, await response.text());
    if (response.ok && rotated !== undefined) {
      this.problems.delete(unit.name);
      this.#deps.log.warn('the platform knew this unit, its credentials were lost here: rotated', { unit: unit.name });
      return unit.setCredentials(rotated.credentials);
    }
    this.#refuse(
      unit,
      `the platform knows it already, but this simulator has lost its credentials, and rotating them answered ` +
        `${response.status}; choose another seed (SIM_SEED), or restore the simulator's store`,
    );
  }

  #refuse(unit: EmulatedUnit, why: string): void {
    if (this.problems.get(unit.name) === why) return;
    this.problems.set(unit.name, why);
    this.#deps.log.error(`${unit.name} cannot be registered: ${why}`);
  }

  async #post(path: string, timeoutMs: number, body: string, contentType: string): Promise<Response> {
    const { url, opsToken } = this.#deps.platform;
    try {
      return await fetch(`${url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${await opsToken()}`, 'content-type': contentType },
        body,
        signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#stop.signal]),
        keepalive: false,
      });
    } catch (error) {
      throw new PlatformUnavailableError(errorMessage(error), { cause: error });
    }
  }
}

async function unavailableAnswer(response: Response): Promise<PlatformUnavailableError> {
  const text = (await response.text()).slice(0, 200);
  return new PlatformUnavailableError(`the import answered ${response.status} ${text}`);
}

/** Lines of a body, as they arrive. @throws PlatformUnavailableError when it breaks off */
async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of body) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) if (line.trim() !== '') yield line;
    }
  } catch (error) {
    throw new PlatformUnavailableError('the answer to the import broke off', { cause: error });
  }
  if (rest.trim() !== '') yield rest;
}

function parse<S extends typeof ImportLine | typeof Rotated>(schema: S, text: string): Static<S> | undefined {
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

/**
 * Gets credentials for simulated units that the platform has registered and whose credentials the store of the simulator does not have:
 * the store was lost, or the answer to the import was.
 *
 * The platform shows credentials only once, so that only a rotation gives new ones. Each rotation is a revocation that stays for ever,
 * and the platform has room for 10,000. Therefore the simulator asks what is registered first, rotates only credentials of simulated
 * units, and rotates at most `MAX_ROTATIONS` in a run.
 */

import { isDeepStrictEqual } from 'node:util';
import { Type } from '@sinclair/typebox';
import { Locker, MAX_LOCKERS_PER_UNIT } from '../../domain/vocabulary.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import { SIMULATED_TAG } from '../plan/fleet-plan.ts';
import { Credentials } from '../unit/credentials.ts';
import { fitLockers } from '../unit/installation.ts';
import { RegistrationRefusedError } from './platform-api.ts';
import { type PlatformClient, PlatformUnavailableError, parseAs, quoted, textOf } from './platform-client.ts';
import type { UnitChannels } from './unit-channels.ts';

/** Most rotations in a run of the simulator: as many as units whose credentials one broken import can lose. */
export const MAX_ROTATIONS = 500;
const REQUEST_TIMEOUT_MS = 10_000;
const CLIENT_ERROR = 400;
const NOT_FOUND = 404;
const PRECONDITION_FAILED = 412;

const RegisteredUnit = Type.Object({
  address: Type.String(),
  probe: Type.String(),
  delivery: Type.String(),
  commandChannel: Type.String(),
  tags: Type.Array(Type.String()),
  lockerDetails: Type.Array(Locker, { maxItems: MAX_LOCKERS_PER_UNIT }),
});
const RotateAnswer = Type.Object({ credentials: Credentials });

export interface CredentialRecoveryDependencies {
  readonly client: PlatformClient;
  readonly channels: UnitChannels;
  readonly log: Log;
  readonly onRecovered: (unit: EmulatedUnit) => void;
  /** Receives why a unit gets no credentials. */
  readonly onRefused: (unit: EmulatedUnit, reason: string) => void;
}

export class CredentialRecovery {
  readonly #deps: CredentialRecoveryDependencies;
  #rotations = 0;

  constructor(deps: CredentialRecoveryDependencies) {
    this.#deps = deps;
  }

  /**
   * @throws RegistrationRefusedError before anything is rotated, when more units need it than the run has left
   * @throws PlatformUnavailableError when the platform cannot answer now
   */
  async recover(units: readonly EmulatedUnit[]): Promise<void> {
    if (this.#rotations + units.length > MAX_ROTATIONS) throw this.#tooMany(units);
    let recovered = 0;
    for (const unit of units) if (await this.#recoverUnit(unit)) recovered += 1;
    if (recovered === 0) return;
    this.#deps.log.warn(
      'The platform had units registered whose credentials the simulator had lost. The simulator has rotated them.',
      { units: recovered },
    );
  }

  #tooMany(units: readonly EmulatedUnit[]): RegistrationRefusedError {
    const done = this.#rotations === 0 ? '' : `, after ${this.#rotations} rotations in this run`;
    return new RegistrationRefusedError(
      `The platform at ${this.#deps.client.url} has ${units.length} units registered, such as ${units[0]?.name}, whose credentials the ` +
        `store of the simulator does not have${done}. The simulator rotates the credentials of at most ${MAX_ROTATIONS} units in a run, ` +
        'because each rotation permanently uses a revocation of the platform, which has 10,000. Restore the store (DATA_DIR), or ' +
        'choose another seed (SIM_SEED, --seed): its units have other names.',
    );
  }

  async #recoverUnit(unit: EmulatedUnit): Promise<boolean> {
    const isOurs = await this.#adoptRegistration(unit);
    if (!isOurs) return false;
    const credentials = await this.#rotate(unit);
    if (credentials === undefined) return false;
    await unit.setCredentials(credentials);
    this.#deps.onRecovered(unit);
    return true;
  }

  /**
   * Gives the simulated unit the lockers that the platform has registered, and the platform the address of the simulated unit.
   * @returns whether the registration is one of a simulated unit and fits it now
   */
  async #adoptRegistration(unit: EmulatedUnit): Promise<boolean> {
    const { client, channels, onRefused } = this.#deps;
    const path = unitPath(unit);
    const response = await client.send({ method: 'GET', path, timeoutMs: REQUEST_TIMEOUT_MS });
    const text = await textOf(response);
    const registered = parseAs(RegisteredUnit, text);
    if (!response.ok || registered === undefined) {
      const answered = `GET ${path} answered ${response.status} ${quoted(text)}`;
      // The read models show a unit a moment after its registration.
      if (!isFinal(response) || response.status === NOT_FOUND) throw new PlatformUnavailableError(answered);
      onRefused(unit, `the platform has it registered, this simulator has lost its credentials, and ${answered}`);
      return false;
    }
    if (!registered.tags.includes(SIMULATED_TAG)) {
      onRefused(
        unit,
        `the platform has a unit of this name that has no tag "${SIMULATED_TAG}", so that its credentials are not the simulator's to ` +
          'rotate; choose another seed (SIM_SEED)',
      );
      return false;
    }
    await unit.decide((model) => fitLockers(model, registered.lockerDetails));
    const reached = { address: unit.address, ...channels };
    const { address, probe, delivery, commandChannel } = registered;
    return (
      isDeepStrictEqual({ address, probe, delivery, commandChannel }, reached) ||
      this.#changeRegistration(unit, reached, response.headers.get('etag') ?? '*')
    );
  }

  async #changeRegistration(unit: EmulatedUnit, changes: object, revision: string): Promise<boolean> {
    const response = await this.#deps.client.send({
      method: 'PATCH',
      path: unitPath(unit),
      timeoutMs: REQUEST_TIMEOUT_MS,
      body: JSON.stringify(changes),
      contentType: 'application/json',
      headers: { 'if-match': revision },
    });
    const text = await textOf(response);
    if (response.ok) return true;
    const answered = `the change of its address answered ${response.status} ${quoted(text)}`;
    if (!isFinal(response) || response.status === PRECONDITION_FAILED) throw new PlatformUnavailableError(answered);
    this.#deps.onRefused(unit, `the platform has it registered with another address, and ${answered}`);
    return false;
  }

  async #rotate(unit: EmulatedUnit): Promise<Credentials | undefined> {
    const path = `${unitPath(unit)}/credentials/rotate`;
    if (this.#rotations >= MAX_ROTATIONS) throw this.#tooMany([unit]);
    // A request whose answer is lost has rotated them, too.
    this.#rotations += 1;
    const response = await this.#deps.client.send({
      method: 'POST',
      path,
      timeoutMs: REQUEST_TIMEOUT_MS,
      body: '{}',
      contentType: 'application/json',
    });
    const text = await textOf(response);
    const rotated = parseAs(RotateAnswer, text);
    if (response.ok && rotated !== undefined) return rotated.credentials;
    if (isFinal(response)) this.#rotations -= 1;
    this.#deps.onRefused(
      unit,
      'the platform has it registered, this simulator has lost its credentials, and rotating them answered ' +
        `${response.status} ${quoted(text)}; choose another seed (SIM_SEED), or restore the store of the simulator`,
    );
    return undefined;
  }
}

/** Whether a repeat of the request gets the same answer, and the request changed nothing. */
function isFinal({ status, headers }: Response): boolean {
  return status >= CLIENT_ERROR && !headers.has('retry-after');
}

function unitPath({ name }: EmulatedUnit): string {
  return `/v1/units/${encodeURIComponent(name)}`;
}

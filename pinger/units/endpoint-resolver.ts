import { isIP } from 'node:net';
import { parseAddress } from '../../domain/address.ts';
import type { AddressResolver } from '../../platform/network/address-resolver.ts';
import type { Log } from '../../platform/observability/log.ts';
import { TaskSet } from '../runtime/task-set.ts';
import type { PingTarget } from './target-list.ts';

/** Bits of a hash that a number represents exactly. */
const FINGERPRINT_BITS = 53;

/** Where a unit is pinged. */
export interface PingEndpoint {
  /** An IPv4 or IPv6 address. */
  readonly ip: string;
  readonly port: number;
}

export interface EndpointResolverOptions {
  /** Most unit indexes. */
  readonly capacity: number;
  readonly resolve: AddressResolver['resolve'];
  /** Receives the endpoint of a unit, or `undefined` when its address leads nowhere. */
  readonly onResolved: (index: number, target: PingTarget, endpoint: PingEndpoint | undefined) => void;
  readonly log: Log;
}

/** Resolves the addresses of units, when they change and, for addresses with a host name, at every full read. */
export class EndpointResolver {
  readonly #options: EndpointResolverOptions;
  /** By unit: a hash of its name, address, probe and key version, so that a change is detected without storing texts; 0 without a unit. */
  readonly #fingerprints: Float64Array;
  readonly #resolutions = new TaskSet();

  constructor(options: EndpointResolverOptions) {
    this.#options = options;
    this.#fingerprints = new Float64Array(options.capacity);
  }

  /** Resolves the address of a unit that is new, has changed, or may have moved behind its host name. */
  update(index: number, target: PingTarget, isFullRead: boolean): void {
    const fingerprint = fingerprintOf(target);
    const mayHaveMoved = isFullRead && !isIpLiteral(target.address);
    if (this.#fingerprints[index] === fingerprint && !mayHaveMoved) return;
    this.#fingerprints[index] = fingerprint;
    this.#resolutions.add(this.#resolve(index, target, fingerprint));
  }

  /** Forgets the unit at an index. A resolution in flight has no effect. */
  reset(index: number): void {
    this.#fingerprints[index] = 0;
  }

  /** Waits for the resolutions in flight. */
  async settled(): Promise<void> {
    await this.#resolutions.settled();
  }

  async #resolve(index: number, target: PingTarget, fingerprint: number): Promise<void> {
    const { resolve, onResolved, log } = this.#options;
    const resolved = await resolve(target.address);
    if (this.#fingerprints[index] !== fingerprint) return;
    if (!('problem' in resolved)) {
      onResolved(index, target, resolved);
      return;
    }
    const { problem, message } = resolved;
    log.warn(
      'A unit is not pinged, because its address leads nowhere. Its heartbeats prove it alive. Correct its address.',
      {
        unit: target.name,
        address: target.address,
        problem,
        message,
      },
    );
    onResolved(index, target, undefined);
  }
}

function fingerprintOf({ name, address, probe, keyVersion }: PingTarget): number {
  const hash = BigInt(Bun.hash(`${name} ${address} ${probe} ${keyVersion}`));
  return Number(BigInt.asUintN(FINGERPRINT_BITS, hash));
}

/** Whether an address needs no name resolution. */
function isIpLiteral(address: string): boolean {
  return isIP(parseAddress(address)?.host ?? '') !== 0;
}

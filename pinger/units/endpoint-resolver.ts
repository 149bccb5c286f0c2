import { isIP } from 'node:net';
import { parseAddress } from '../../domain/address.ts';
import type { AddressResolver } from '../../platform/network/address-resolver.ts';
import type { Log } from '../../platform/observability/log.ts';
import { type BackoffBounds, backoffMs } from '../../platform/retry/backoff.ts';
import type { PingerClock } from '../runtime/clock.ts';
import { TaskSet } from '../runtime/task-set.ts';
import type { PingTarget } from './target-list.ts';

/** Bits of a hash that a number represents exactly. */
const FINGERPRINT_BITS = 53;
/** Pauses between attempts to resolve a host name that cannot be resolved now, of which the second half is jitter. */
const RETRY_BACKOFF: BackoffBounds = { firstMs: 1_000, maxMs: 60_000 };

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
  /** Called when the address of a unit cannot be resolved now; the unit keeps its last endpoint, if it has one. */
  readonly onUnavailable: (index: number, target: PingTarget) => void;
  readonly after: PingerClock['after'];
  /** From 0 to 1. */
  readonly random: () => number;
  readonly log: Log;
}

/**
 * Resolves the addresses of units, when they change and, for addresses with a host name, at every full read. A name server that does not
 * answer changes nothing: a unit keeps its last address, and the name is resolved again soon.
 */
export class EndpointResolver {
  readonly #options: EndpointResolverOptions;
  /** By unit: a hash of its name, address, probe and key version, so that a change is detected without storing texts; 0 without a unit. */
  readonly #fingerprints: Float64Array;
  readonly #resolutions = new TaskSet();
  /** By unit: attempts in a row that found no name server, and the way to cancel the next one. */
  readonly #retries = new Map<number, { readonly failures: number; readonly cancel: () => void }>();
  #isStopped = false;

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
    this.#endRetries(index);
    this.#fingerprints[index] = 0;
  }

  /** Ends the retries, and waits for the resolutions in flight. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { cancel } of this.#retries.values()) cancel();
    await this.settled();
  }

  /** Waits for the resolutions in flight. */
  async settled(): Promise<void> {
    await this.#resolutions.settled();
  }

  async #resolve(index: number, target: PingTarget, fingerprint: number): Promise<void> {
    const { resolve, onResolved, log } = this.#options;
    const resolved = await resolve(target.address);
    if (this.#fingerprints[index] !== fingerprint) return;
    if ('problem' in resolved && resolved.problem === 'unavailable') {
      this.#retry(index, target, fingerprint, resolved.message);
      return;
    }
    this.#endRetries(index);
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

  #retry(index: number, target: PingTarget, fingerprint: number, message: string): void {
    const { onUnavailable, after, random, log } = this.#options;
    if (this.#isStopped) return;
    const failures = (this.#retries.get(index)?.failures ?? 0) + 1;
    this.#endRetries(index);
    if (failures === 1) {
      onUnavailable(index, target);
      const { name: unit, address } = target;
      log.warn('The address of a unit cannot be resolved now. The pinger keeps its last address, and retries.', {
        unit,
        address,
        message,
      });
    }
    const cancel = after((backoffMs(failures, RETRY_BACKOFF) * (1 + random())) / 2, () => {
      if (!this.#isStopped && this.#fingerprints[index] === fingerprint)
        this.#resolutions.add(this.#resolve(index, target, fingerprint));
    });
    this.#retries.set(index, { failures, cancel });
  }

  #endRetries(index: number): void {
    this.#retries.get(index)?.cancel();
    this.#retries.delete(index);
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

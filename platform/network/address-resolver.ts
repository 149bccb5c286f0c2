/**
 * Resolves the addresses of units and refuses denied ones: a registered address must not make the platform send requests to
 * the metadata service of its own machine, or to a multicast or broadcast address.
 */

import { lookup as lookUp } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import pLimit from 'p-limit';
import { parseAddress } from '../../domain/address.ts';

/** Denied by default: link-local, metadata, unspecified, multicast and broadcast addresses. Simulated units use loopback. */
export const DEFAULT_DENIED = [
  '0.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '::/128',
  'fd00:ec2::254/128',
  'fe80::/10',
  'ff00::/8',
] as const;
/** Longest time to resolve a host name. */
const LOOKUP_TIMEOUT_MS = 3_000;
/** Host names that are looked up at the same time. */
const MAX_CONCURRENT_LOOKUPS = 32;
/** Host names that may wait to be looked up. Further ones are `unavailable`. */
const MAX_LOOKUPS_WAITING = 100_000;
const IPV4_BITS = 32;
const IPV6_BITS = 128;
const IPV6 = 6;
/** Terminal errors of a lookup: the host does not exist. Other errors are retryable. */
const NO_HOST: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA']);

export type Resolved =
  | { readonly ip: string; readonly port: number }
  /** `unavailable` is retryable, the others are terminal. `message` continues a sentence whose subject is the address. */
  | { readonly problem: 'malformed' | 'unresolvable' | 'denied' | 'unavailable'; readonly message: string };

/** Whether a text is a range of addresses, such as `169.254.0.0/16`. */
export function isRange(text: string): boolean {
  const [network = '', bits = '', ...rest] = text.split('/');
  const family = isIP(network);
  const most = family === IPV6 ? IPV6_BITS : IPV4_BITS;
  return rest.length === 0 && family !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= most;
}

export interface AddressResolverOptions {
  /** Denied ranges, each as `isRange` accepts it. */
  readonly denied: readonly string[];
  /** All addresses of a host name. Rejects with a system error. */
  readonly lookup: (host: string) => Promise<readonly string[]>;
}

export class AddressResolver {
  readonly #lookup: AddressResolverOptions['lookup'];
  readonly #denied = new BlockList();
  readonly #limit = pLimit(MAX_CONCURRENT_LOOKUPS);

  constructor({ denied, lookup }: AddressResolverOptions) {
    this.#lookup = lookup;
    for (const range of denied) {
      const [network = '', bits] = range.split('/');
      this.#denied.addSubnet(network, Number(bits), isIP(network) === IPV6 ? 'ipv6' : 'ipv4');
    }
  }

  /** Resolves `host:port` to the first address of the host. It is denied when any address of the host is. */
  async resolve(address: string): Promise<Resolved> {
    const parsed = parseAddress(address);
    if (parsed === undefined) return { problem: 'malformed', message: 'must be HOST:PORT' };
    const { host, port } = parsed;
    const ips = isIP(host) === 0 ? await this.#ipsOf(host) : [host];
    if (!Array.isArray(ips)) return ips;
    const [ip] = ips;
    if (ip === undefined) return { problem: 'unresolvable', message: `has a host without an IP address: ${host}` };
    const denied = ips.find((candidate) => this.isDenied(candidate));
    if (denied === undefined) return { ip, port };
    return { problem: 'denied', message: `leads to ${denied}, which is in a denied range (PING_DENY)` };
  }

  isDenied(ip: string): boolean {
    return this.#denied.check(ip, isIP(ip) === IPV6 ? 'ipv6' : 'ipv4');
  }

  async #ipsOf(host: string): Promise<string[] | Extract<Resolved, { problem: string }>> {
    if (this.#limit.pendingCount >= MAX_LOOKUPS_WAITING) {
      return { problem: 'unavailable', message: `cannot be resolved now: ${MAX_LOOKUPS_WAITING} host names wait` };
    }
    try {
      return [...(await this.#limit(() => withTimeout(this.#lookup(host))))];
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      if (NO_HOST.has(code)) return { problem: 'unresolvable', message: `has a host that does not exist: ${host}` };
      return { problem: 'unavailable', message: `cannot be resolved now: ${host}` };
    }
  }
}

/** All addresses of a host name, from the resolver of the operating system. @throws a system error */
export async function addressesOf(host: string): Promise<readonly string[]> {
  return (await lookUp(host, { all: true })).map(({ address }) => address);
}

async function withTimeout<T>(work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`the lookup took longer than ${LOOKUP_TIMEOUT_MS} ms`)),
    LOOKUP_TIMEOUT_MS,
  );
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

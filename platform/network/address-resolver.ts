/**
 * Where an address leads, and whether the platform may ask there: an address that an operator registers must not make the
 * platform ask its own machine's metadata service, or everybody at once.
 */

import { lookup as lookUp } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { parseAddress } from '../../domain/address.ts';

/**
 * What is not asked by default: link-local addresses, metadata services, addresses that mean none, many or all. Loopback is
 * allowed: simulated units are there.
 */
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
/** How long a name may take to resolve. */
const LOOKUP_TIMEOUT_MS = 3_000;
/** Names that are looked up at once. */
const MAX_LOOKUPS_UNDER_WAY = 32;
/** Names that wait to be looked up. */
const MAX_LOOKUPS_WAITING = 100_000;
const IPV4_BITS = 32;
const IPV6_BITS = 128;
const IPV6 = 6;
/** Errors of a lookup that say that there is no such host; others may pass. */
const NO_HOST: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA']);

export type Resolved =
  | { readonly ip: string; readonly port: number }
  /** `unavailable` may pass, the others not. */
  | { readonly problem: 'malformed' | 'unresolvable' | 'denied' | 'unavailable'; readonly message: string };

/** Whether a text is a range of addresses, such as `169.254.0.0/16`. */
export function isRange(text: string): boolean {
  const [network = '', bits = '', ...rest] = text.split('/');
  const family = isIP(network);
  const most = family === IPV6 ? IPV6_BITS : IPV4_BITS;
  return rest.length === 0 && family !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= most;
}

export interface AddressResolverOptions {
  /** Ranges that are not asked, as `isRange` takes them. */
  readonly denied: readonly string[];
  /** All addresses of a host name. Rejects with a system error. */
  readonly lookup: (host: string) => Promise<readonly string[]>;
}

export class AddressResolver {
  readonly #lookup: AddressResolverOptions['lookup'];
  readonly #denied = new BlockList();
  readonly #waiting: (() => void)[] = [];
  #underWay = 0;

  constructor({ denied, lookup }: AddressResolverOptions) {
    this.#lookup = lookup;
    for (const range of denied) {
      const [network = '', bits] = range.split('/');
      this.#denied.addSubnet(network, Number(bits), isIP(network) === IPV6 ? 'ipv6' : 'ipv4');
    }
  }

  /** The first address of a host, where none of its addresses is denied. `address`: `host:port`. */
  async resolve(address: string): Promise<Resolved> {
    const parsed = parseAddress(address);
    if (parsed === undefined) return { problem: 'malformed', message: 'must be HOST:PORT' };
    const { host, port } = parsed;
    const ips = isIP(host) === 0 ? await this.#ipsOf(host) : [host];
    if (!Array.isArray(ips)) return ips;
    const [ip] = ips;
    if (ip === undefined) return { problem: 'unresolvable', message: `has a host that has no address: ${host}` };
    const denied = ips.find((each) => this.isDenied(each));
    if (denied === undefined) return { ip, port };
    return { problem: 'denied', message: `leads to ${denied}, which is not asked` };
  }

  isDenied(ip: string): boolean {
    return this.#denied.check(ip, isIP(ip) === IPV6 ? 'ipv6' : 'ipv4');
  }

  async #ipsOf(host: string): Promise<string[] | Extract<Resolved, { problem: string }>> {
    if (this.#waiting.length >= MAX_LOOKUPS_WAITING) return { problem: 'unavailable', message: 'too many names wait' };
    if (this.#underWay >= MAX_LOOKUPS_UNDER_WAY) await new Promise<void>((go) => this.#waiting.push(go));
    this.#underWay += 1;
    try {
      return [...(await withTimeout(this.#lookup(host)))];
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      if (NO_HOST.has(code)) return { problem: 'unresolvable', message: `has a host that nobody knows: ${host}` };
      return { problem: 'unavailable', message: `cannot be resolved now: ${host}` };
    } finally {
      this.#underWay -= 1;
      this.#waiting.shift()?.();
    }
  }
}

/** All addresses of a host name, as the system knows them. Rejects with a system error. */
export async function addressesOf(host: string): Promise<readonly string[]> {
  return (await lookUp(host, { all: true })).map(({ address }) => address);
}

async function withTimeout<T>(work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error('the lookup takes too long')), LOOKUP_TIMEOUT_MS);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Checks of where a unit is: its time zone, and the address at which the platform reaches it. */

import type { AddressResolver } from '../../../platform/network/address-resolver.ts';
import { invalidField, Problem, RETRY_AFTER_S } from '../../http/problems.ts';

/** A bound on the cache of time zone names: clients may spell each in many ways, in upper and lower case. */
const MAX_KNOWN_TIME_ZONES = 1_000;

export class TimeZones {
  /** Time zones that exist. To ask `Intl` takes longer than anything else in an import, and there are a few hundred. */
  readonly #known = new Set<string>();

  /** @throws Problem `validation` for a time zone that does not exist */
  require(timeZone: string): void {
    if (this.#known.has(timeZone)) return;
    try {
      new Intl.DateTimeFormat('en', { timeZone });
    } catch {
      throw invalidField('/timeZone', 'is not an IANA time zone');
    }
    if (this.#known.size < MAX_KNOWN_TIME_ZONES) this.#known.add(timeZone);
  }
}

/** Refuses an address that has no port or host that the platform may ask. @throws Problem `validation`, `unavailable` */
export async function requireUsableAddress(address: string, addresses: AddressResolver): Promise<void> {
  const resolved = await addresses.resolve(address);
  if (!('problem' in resolved)) return;
  if (resolved.problem !== 'unavailable') throw invalidField('/address', resolved.message);
  throw new Problem(
    'unavailable',
    503,
    `The address of the unit ${resolved.message}. Nothing was changed; send the request again.`,
    { retryAfterS: RETRY_AFTER_S },
  );
}

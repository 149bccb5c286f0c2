/**
 * The secrets that open the locker of a reservation at the unit: the access code and the offline token. They are derived and signed
 * on request, so that no event and no table contains them.
 */

import { LRUCache } from 'lru-cache';
import type { PlatformSigner } from '../unit-protocol/signatures.ts';
import { accessCode } from './keys.ts';

/** Bytes of the cached codes, some 60,000: a decision compares the code of a new reservation with those of all others at the unit. */
const MAX_CACHED_CODES_BYTES = 16 * 1024 * 1024;
/** An estimate of the bytes of a cache entry without its key. */
const ENTRY_BYTES = 150;

/** The part of a reservation that its access code follows from. */
interface CodedReservation {
  readonly id: string;
  readonly accessCodeDraw?: number;
}

/** The part of a reservation that its offline token states. Times are RFC 3339. */
interface SignedReservation extends CodedReservation {
  readonly unit: string;
  readonly locker: string;
  readonly from: string;
  readonly until: string;
  /** A sequence of the unit's bookings at which the reservation was confirmed, and had this locker. */
  readonly bookingSequence: number;
}

export class ReservationSecrets {
  readonly #fleetKey: Uint8Array;
  readonly #signer: PlatformSigner;
  readonly #codes = new LRUCache<string, string>({
    maxSize: MAX_CACHED_CODES_BYTES,
    sizeCalculation: (_, key) => ENTRY_BYTES + key.length,
  });

  constructor(fleetKey: Uint8Array, signer: PlatformSigner) {
    this.#fleetKey = fleetKey;
    this.#signer = signer;
  }

  async of(reservation: SignedReservation): Promise<{ accessCode: string; offlineToken: string }> {
    const { id, unit, locker, from, until, bookingSequence: asOf } = reservation;
    const offlineToken = await this.#signer.offlineToken({ aud: unit, sub: id, locker, from, until, asOf });
    return { accessCode: this.accessCode(reservation), offlineToken };
  }

  accessCode({ id, accessCodeDraw = 0 }: CodedReservation): string {
    // A decision looks up every reservation of the unit, and the id of a first draw is a text that exists already.
    const key = accessCodeDraw === 0 ? id : `${id} ${accessCodeDraw}`;
    const cached = this.#codes.get(key);
    if (cached !== undefined) return cached;
    const code = accessCode(this.#fleetKey, id, accessCodeDraw);
    this.#codes.set(key, code);
    return code;
  }
}

/**
 * The secrets that open the locker of a reservation at the unit: the access code and the offline token. They are derived and signed
 * on request, so that no event and no table contains them.
 */

import type { PlatformSigner } from '../unit-protocol/signatures.ts';
import { accessCode } from './keys.ts';

/** The part of a reservation that its offline token states. Times are RFC 3339. */
interface SignedReservation {
  readonly id: string;
  readonly unit: string;
  readonly locker: string;
  readonly from: string;
  readonly until: string;
}

export class ReservationSecrets {
  readonly #fleetKey: Uint8Array;
  readonly #signer: PlatformSigner;

  constructor(fleetKey: Uint8Array, signer: PlatformSigner) {
    this.#fleetKey = fleetKey;
    this.#signer = signer;
  }

  async of({
    id,
    unit,
    locker,
    from,
    until,
  }: SignedReservation): Promise<{ accessCode: string; offlineToken: string }> {
    const offlineToken = await this.#signer.offlineToken({ aud: unit, sub: id, locker, from, until });
    return { accessCode: this.accessCode(id), offlineToken };
  }

  accessCode(reservationId: string): string {
    return accessCode(this.#fleetKey, reservationId);
  }
}

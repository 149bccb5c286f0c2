/** What opens a reservation's locker at the screen. Derived and signed when asked for: no event and no table holds it. */

import { accessCode } from '../../platform/credentials/keys.ts';
import type { PlatformSigner } from '../../platform/unit-protocol/signatures.ts';
import type { ReservationFields } from './schema.ts';

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
  }: ReservationFields): Promise<{ accessCode: string; offlineToken: string }> {
    const offlineToken = await this.#signer.offlineToken({ aud: unit, sub: id, locker, from, until });
    return { accessCode: this.accessCode(id), offlineToken };
  }

  accessCode(reservationId: string): string {
    return accessCode(this.#fleetKey, reservationId);
  }
}

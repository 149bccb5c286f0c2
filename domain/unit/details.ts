/** A unit in the words in which it is shown to operators, now and at any other time. */

import { requireConfigured } from '../configuration/state.ts';
import type { RegisteredUnit } from '../registry/registry.ts';
import type { UnitState } from './unit.ts';

export function detailsOf({ configuration, connectivity, device, log }: UnitState, registry: RegisteredUnit) {
  const { address, probe, delivery, commandChannel, location, timeZone, tags, status } = registry;
  return {
    status,
    credentialsRevoked: registry.credentialsRevoked,
    address,
    probe,
    delivery,
    commandChannel,
    location,
    timeZone,
    tags,
    connectivity,
    configuration: requireConfigured(configuration).desired,
    log: device.epoch === undefined ? null : { epoch: device.epoch, recordedSeq: device.epochs[device.epoch] ?? 0 },
    gaps: Object.entries(log.gaps).map(([epoch, range]) => ({ epoch, ...range })),
    lost: Object.entries(log.lost).map(([epoch, range]) => ({ epoch, ...range })),
    lastEventAt: device.lastEventAt ?? null,
    lockerDetails: registry.lockers.map(({ id, size, inService }) => ({
      id,
      size,
      inService,
      door: device.lockers[id]?.door ?? 'unknown',
      rental: device.lockers[id]?.rental ?? null,
    })),
  };
}

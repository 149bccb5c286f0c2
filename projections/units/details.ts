/** A unit as operators see it. The read model of units shows its present state, the history its state at another time. */

import { requireConfigured } from '../../domain/configuration/configuration.ts';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { isInServiceAt } from '../../domain/registry/service.ts';
import type { UnitState } from '../../domain/unit/unit.ts';

export function unitDetails(
  { configuration, connectivity, device, log }: UnitState,
  registry: RegisteredUnit,
  atMs: number,
) {
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
    lockerDetails: registry.lockers.map(({ id, size, outOfService }) => ({
      id,
      size,
      inService: isInServiceAt(registry, id, atMs),
      outOfService: outOfService ?? null,
      door: device.lockers[id]?.door ?? 'unknown',
      rental: device.lockers[id]?.rental ?? null,
    })),
    maintenance: registry.maintenance,
    revision: registry.revision,
  };
}

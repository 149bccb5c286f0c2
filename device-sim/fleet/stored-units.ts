/** The units of a fleet plan in the store: loaded, or created with the first entry of their log. */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { NO_FAULTS } from '../faults/faults.ts';
import { planAddresses } from '../plan/addresses.ts';
import type { PlannedUnit } from '../plan/fleet-plan.ts';
import type { FleetStore, StoredUnit } from '../store/fleet-store.ts';
import { createUnit } from '../unit/lifecycle.ts';
import type { DecisionContext } from '../unit/model.ts';

export interface LoadedUnit {
  readonly stored: StoredUnit;
  /** The store did not have the unit before. */
  readonly isNew: boolean;
}

/** Loads the units of a plan, and creates those that the store does not have. @returns the units by name */
export function loadOrCreateUnits(
  store: FleetStore,
  plan: readonly PlannedUnit[],
  options: {
    readonly nowMs: number;
    readonly newId: () => string;
    readonly factoryConfiguration: VersionedConfiguration;
    /** Common port of the units. Units that are in the store keep their port. */
    readonly unitPort: number;
  },
): Map<string, LoadedUnit> {
  const { nowMs, newId, factoryConfiguration, unitPort } = options;
  const stored = store.loadUnits();
  const storedPort = [...stored.values()][0]?.address.split(':')[1];
  const missing = plan.map((unit, index) => ({ unit, index })).filter(({ unit }) => !stored.has(unit.name));
  const addresses = missing.length === 0 ? undefined : planAddresses(Number(storedPort ?? unitPort), stored.size > 0);
  const context: DecisionContext = {
    nowMs,
    newId,
    isOffline: false,
    jammedLockers: new Set<string>(),
    doesTerminalDecline: false,
    configurationFault: 'well',
  };
  const created = store.createUnits(
    missing.map(({ unit, index }) => {
      const { unit: model, entries } = createUnit({ ...unit, configuration: factoryConfiguration }, context);
      const address = addresses?.address(index) ?? '';
      return { address, credentials: undefined, faults: NO_FAULTS, model, entries };
    }),
  );
  const units = new Map<string, LoadedUnit>();
  for (const [name, unit] of stored) units.set(name, { stored: unit, isNew: false });
  for (const unit of created) units.set(unit.model.name, { stored: unit, isNew: true });
  return units;
}

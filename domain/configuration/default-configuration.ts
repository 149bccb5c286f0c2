import type { ConfigurationValues, VersionedConfiguration } from '../configuration-values.ts';
import { configurationHash } from './configuration-hash.ts';

/** The configuration with which a unit is registered. `holdTtlS` comes from the platform's settings. */
export function defaultConfiguration(holdTtlS: number): VersionedConfiguration {
  const values: ConfigurationValues = {
    prices: [
      { size: 'S', perHour: 200, currency: 'EUR' },
      { size: 'M', perHour: 300, currency: 'EUR' },
      { size: 'L', perHour: 450, currency: 'EUR' },
      { size: 'XL', perHour: 600, currency: 'EUR' },
    ],
    minimumMinutes: 15,
    maximumMinutes: 60 * 24 * 7,
    holdTtlS,
    openingHours: [],
    texts: {},
    pushIntervalMs: 1_000,
  };
  return { version: 1, hash: configurationHash(values), values };
}

import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';

const HOLD_TTL_S = 600;

/** The data of `UnitRegistered` for a unit with one locker. `overrides` replaces fields. */
export function registration(
  name: string,
  overrides: Partial<EventOf<'UnitRegistered'>> = {},
): EventOf<'UnitRegistered'> {
  return {
    name,
    displayName: name,
    address: '127.0.0.1:1',
    probe: 'http',
    delivery: 'push',
    commandChannel: 'http',
    location: { lat: 0, lon: 0 },
    timeZone: 'UTC',
    tags: [],
    lockers: [{ id: 'A', size: 'S' }],
    configuration: defaultConfiguration(HOLD_TTL_S),
    keyVersion: 1,
    natsUser: 'U',
    ...overrides,
  };
}

/** The body of `POST /v1/units`, and a line of its import, for the same unit. */
export function registrationBody(name: string, overrides: Partial<EventOf<'UnitRegistered'>> = {}) {
  const { configuration: _, keyVersion: __, natsUser: ___, ...body } = registration(name, overrides);
  return body;
}

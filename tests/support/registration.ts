import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';

const HOLD_TTL_S = 600;

/** What an operator says of a unit that nothing special is known about. */
export function registration(name: string): EventOf<'UnitRegistered'> {
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
  };
}

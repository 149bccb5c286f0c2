/** Registers units for tests: the data of the event, the body of the request, and both ways in. */

import type { Credentials } from '../../device-sim/unit/credentials.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import type { Client } from './client.ts';
import { eventually } from './eventually.ts';

const HOLD_TTL_S = 600;

export type RegistrationOverrides = Partial<EventOf<'UnitRegistered'>>;

/** The data of `UnitRegistered` for a unit with one locker. `overrides` replaces fields. */
export function registration(name: string, overrides: RegistrationOverrides = {}): EventOf<'UnitRegistered'> {
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
export function registrationBody(name: string, overrides: RegistrationOverrides = {}) {
  const { configuration: _, keyVersion: __, natsUser: ___, ...body } = registration(name, overrides);
  return body;
}

/** Appends `UnitRegistered` to the event log of a unit, which gets no credentials. */
export async function appendRegistration(
  decider: Pick<UnitDecider, 'decide'>,
  name: string,
  overrides: RegistrationOverrides = {},
): Promise<void> {
  const meta = { commandId: `register-${name}`, actor: 'ops:tests', source: '/lockfleet/tests' };
  await decider.decide(name, 'registry', meta, () => [{ type: 'UnitRegistered', data: registration(name, overrides) }]);
}

/** Registers a unit over REST. @returns its credentials @throws Error when the platform refuses the registration */
export async function registerUnit(
  ops: Client,
  name: string,
  overrides: RegistrationOverrides = {},
): Promise<Credentials> {
  const body = registrationBody(name, overrides);
  // A platform answers 503 until its read models serve.
  const answer = await eventually(async () => {
    const received = await ops.post('/v1/units', body, { 'idempotency-key': name });
    return received.status !== 503 && received;
  });
  if (answer.status !== 201) throw new Error(`${name} was not registered: ${JSON.stringify(answer.body)}`);
  return answer.body.credentials as Credentials;
}

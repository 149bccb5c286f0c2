/** A platform with a few simulated units, for the tests of one file. Each test takes customers of its own. */

import type { LockerSize } from '../../domain/vocabulary.ts';
import { Client, items } from '../support/client.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const UNITS = 4;

let started: Promise<Platform> | undefined;
let customers = 0;

/** Starts the platform at the first call. `stopFleet` stops it. */
export function fleet(): Promise<Platform> {
  const env = { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500' };
  started ??= startPlatform({ purpose: 'e2e', units: UNITS, env });
  return started;
}

/** For `afterAll` of a test file. */
export async function stopFleet(): Promise<void> {
  const platform = started;
  started = undefined;
  await (await platform)?.stop();
}

/** A customer whom the platform has not seen. */
export async function newCustomer(): Promise<Client> {
  const { api, token } = await fleet();
  customers += 1;
  return new Client(api, await token('customer', `customer-${customers}`));
}

export async function operator(): Promise<Client> {
  const { api, token } = await fleet();
  return new Client(api, await token('ops', 'operator'));
}

export interface Free {
  readonly locker: string;
  readonly size: LockerSize;
}

export async function freeAt(client: Client, unit: string, when: { from: string; until: string }): Promise<Free[]> {
  const query = new URLSearchParams({ unit, ...when });
  return items(await client.get(`/v1/availability?${query}`)) as unknown as Free[];
}

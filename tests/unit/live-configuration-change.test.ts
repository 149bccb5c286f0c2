/** How long a live change waits for a unit: the time is injected, so the machine has no part in it. */

import { expect, test } from 'bun:test';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { markUnitOnline } from '../../domain/connectivity/connectivity.ts';
import { ConfigurationPusher } from '../../platform/units/configuration-pusher.ts';
import { UnitUnreachableError } from '../../platform/units/unit-command-client.ts';
import {
  type ConfigurationDependencies,
  ConfigurationService,
} from '../../server/api/configuration/configuration-service.ts';
import { META, newDecider, newStore, register } from '../support/decider.ts';

const UNIT = 'U-1';
const START_MS = Date.parse('2026-07-01T10:00:00Z');
/** The longest time of a request for a live change. */
const REQUEST_MS = 5_000;

test('a live change answers within 5 s when the unit is silent: it waits 4 s, once, and leaves the change to the queue', async () => {
  let nowMs = START_MS;
  const clock = () => nowMs;
  const newId = () => crypto.randomUUID();
  const store = newStore();
  const decider = newDecider(store, { clock });
  await register(store, UNIT);
  await decider.decide(UNIT, 'connectivity', { ...META, commandId: 'online' }, (state) =>
    markUnitOnline(state.connectivity, 'ping', nowMs),
  );
  const waitedMs: number[] = [];
  // A unit that never answers: the client gives up after the time that it is given.
  const send = async (_unit: unknown, _command: unknown, { timeoutMs = 0 }: { readonly timeoutMs?: number }) => {
    waitedMs.push(timeoutMs);
    nowMs += timeoutMs;
    throw new UnitUnreachableError('no answer');
  };
  const push = new ConfigurationPusher({ decider, commands: { send }, retryScheduleS: [60], newId, clock });
  // A change needs neither read models nor positions.
  const service = new ConfigurationService({ decider, push, clock } as ConfigurationDependencies);
  const values = { ...defaultConfiguration(600).values, minimumMinutes: 24 };
  const command = { commandId: newId(), actor: META.actor, name: UNIT, expectedVersion: undefined };
  const answer = await service.change(command, { mode: 'live', values });
  expect(answer).toMatchObject({ status: 202, body: { status: 'failed', attempts: 1, reason: 'no answer' } });
  expect(waitedMs).toEqual([4_000]);
  expect(nowMs - START_MS).toBeLessThan(REQUEST_MS);
});

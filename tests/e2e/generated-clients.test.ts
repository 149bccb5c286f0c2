/** Clients that two generators make of the OpenAPI document compile, and customers rent a locker with them. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Client, period } from '../support/client.ts';
import { GeneratedClient, type GeneratorName } from '../support/generated-client.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const UNIT = 'PL-1000';

let platform: Platform;
let document: Record<string, unknown>;

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'clients', units: 1 });
  document = (await new Client(platform.api).get('/swagger/json')).body;
}, 120_000);

afterAll(() => platform.stop());

describe.each<GeneratorName>(['openapi-typescript', 'hey-api'])('a client that %s generates', (generator) => {
  test('compiles, and holds, confirms, opens and ends a rental', async () => {
    const client = await GeneratedClient.generate(generator, document);
    await client.typeCheck();
    const { from, until } = period(0, 60);
    const env = { API: platform.api, SIMULATOR: platform.sim, UNIT, FROM: from, UNTIL: until };
    const TOKEN = await platform.token('customer', generator);
    const ended = await client.run({ ...env, TOKEN });
    expect(ended).toEqual({
      id: expect.stringMatching(/^PL-1000\./),
      status: 'completed',
      opened: 'opened',
      currency: 'EUR',
    });
  }, 120_000);
});

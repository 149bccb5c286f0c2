/**
 * Rebuilds whose process is killed again and again, at any moment: each goes on where its last transaction left it, and comes to
 * what the events say, row for row. What fills batch by batch and what folds in memory are killed alike.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { Nats } from '../../platform/nats/connection.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { requestRebuild } from '../../projections/engine/queries/rebuilds.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { publishHistory } from '../support/publish-history.ts';
import { seededRandom } from '../support/random.ts';
import { verifyProjection } from '../support/verify.ts';

const EVENTS = 30_000;
const KILLS = 4;
/** A rebuild of this history lasts about a second. */
const MAX_PAUSE_MS = 1_500;
const WAIT = { timeoutMs: 60_000, intervalMs: 20 };

let platform: Platform;
let postgres: Postgres;
const random = seededRandom();

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'chaos-rebuild' });
  // It would react to all of it.
  await platform.server.kill();
  postgres = new Postgres({ url: platform.postgres.url, applicationName: 'tests', maxConnections: 2 });
  const nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'tests', log: quietLog });
  const history = new FleetHistory(random, { units: 100, lockers: 4 });
  await publishHistory(nats, history, EVENTS);
  await nats.close();
}, 120_000);

afterAll(async () => {
  await postgres.close(1);
  await platform.stop();
});

async function statusOf(runId: number): Promise<string> {
  const [run] = await postgres.sql<{ status: string }[]>`
    select status from platform.projection_runs where id = ${runId}`;
  return run?.status ?? 'gone';
}

test.each(['event_log', 'bookings', 'reservations', 'daily_summary'])(
  'of %s',
  async (name) => {
    const asked = await requestRebuild(postgres, name, 'tests');
    if (asked === undefined) throw new Error(`${name} is not filled`);
    const statusIs = (...statuses: string[]) =>
      eventually(async () => expect(statuses).toContain(await statusOf(asked.runId)), WAIT);
    for (let kill = 0; kill < KILLS; kill += 1) {
      // The first in the middle, the others whenever it may be.
      if (kill === 0) await statusIs('building');
      else await Bun.sleep(random.below(MAX_PAUSE_MS));
      await platform.projections.killAndRestart();
      if (kill === 0) expect(['building', 'requested']).toContain(await statusOf(asked.runId));
    }
    await statusIs('serving');
    const { said, exitCode } = await verifyProjection(platform, name);
    expect(said).toContain(`${name}: every row of`);
    expect(exitCode).toBe(0);
  },
  120_000,
);

/**
 * Rebuilds whose process is killed repeatedly at random moments. Each continues where its last transaction left it, and ends with the
 * rows that a fold of the events gives. The projections are of both kinds: some fill batch by batch, some fold in memory.
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
const MAX_ATTEMPTS = 10;
/** A rebuild of this history lasts about a second. */
const MAX_PAUSE_MS = 1_500;
const WAIT = { timeoutMs: 120_000, intervalMs: 20 };

let platform: Platform;
let postgres: Postgres;
const random = seededRandom();

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'chaos-rebuild' });
  // The server would react to every event of the history.
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

/** Requests a rebuild and kills the projections while it runs. A loaded machine may let it end first: then another one is requested. */
async function killDuringRebuild(name: string): Promise<number> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const rebuild = await requestRebuild(postgres, name, 'tests');
    if (rebuild === undefined) throw new Error(`${name} is not filled`);
    await eventually(async () => (await statusOf(rebuild.runId)) !== 'requested', WAIT);
    platform.projections.pause();
    const status = await statusOf(rebuild.runId);
    await platform.projections.killAndRestart();
    if (status === 'building') return rebuild.runId;
  }
  throw new Error(`${MAX_ATTEMPTS} rebuilds ended before the process was killed`);
}

test.each(['event_log', 'bookings', 'reservations', 'daily_summary'])(
  'a rebuild of %s goes on after each kill and ends with the rows of the events',
  async (name) => {
    const runId = await killDuringRebuild(name);
    expect(await statusOf(runId)).not.toBe('serving');
    for (let kill = 1; kill < KILLS; kill += 1) {
      await Bun.sleep(random.below(MAX_PAUSE_MS));
      await platform.projections.killAndRestart();
    }
    await eventually(async () => (await statusOf(runId)) === 'serving', WAIT);
    const { output, exitCode } = await verifyProjection(platform, name);
    expect(output).toContain(`${name}: every row of`);
    expect(exitCode).toBe(0);
  },
  180_000,
);

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { natsServerConfig } from '../../platform/credentials/nats-accounts.ts';
import { startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { encodeTelemetry, telemetrySubject } from '../../platform/liveness/telemetry-message.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { ensureStreams } from '../../platform/nats/ensure-streams.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { freePort } from '../../platform/process/ports.ts';
import { runStatus } from '../../projections/engine/queries/status.ts';
import { listEvents } from '../../projections/event_log/queries/events.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { metricsAt, metricsWhen } from '../support/metrics.ts';
import { connectPlatform, quietLog, testPlatform } from '../support/nats.ts';
import { readModelsOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { freshDatabase, natsServerBinary } from '../support/services.ts';
import { answered } from '../support/telemetry.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const STOP_LIMIT_MS = 3_500;

let env: Record<string, string>;
let nats: Nats;
let postgres: Postgres;
let store: NatsEventStore;
const running = new Set<Bun.Subprocess>();

beforeAll(async () => {
  const [platform, url, folder] = await Promise.all([testPlatform(), freshDatabase(), temporaryFolder('projections')]);
  const creds = join(folder, 'platform.creds');
  await writeFile(creds, platform.creds);
  env = {
    NATS_URL: platform.url,
    NATS_CREDS: creds,
    DATABASE_URL: url,
    DATA_DIR: folder,
    PATH: process.env.PATH ?? '',
  };
  nats = await connectPlatform();
  store = new NatsEventStore(
    nats,
    () => Bun.randomUUIDv7(),
    () => performance.now(),
  );
  postgres = new Postgres({ url, applicationName: 'tests', maxConnections: 2 });
}, 60_000);

afterAll(async () => {
  for (const child of running) child.kill('SIGKILL');
  await Promise.all([...running].map((child) => child.exited));
  await nats.close();
  await postgres.close(1);
});

/** Starts the process and waits until it says that it is ready. */
async function start(other: Readonly<Record<string, string>> = {}) {
  const child = Bun.spawn([process.execPath, 'projections/main.ts'], {
    cwd: ROOT,
    env: { ...env, ...other },
    stdout: 'pipe',
    stderr: 'pipe',
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  const errors = child.stderr.text();
  const ready = Promise.withResolvers<void>();
  void (async () => {
    for await (const chunk of child.stdout) if (new TextDecoder().decode(chunk).includes('ready')) ready.resolve();
    ready.reject(new Error(`it ended before it was ready: ${await errors}`));
  })();
  await ready.promise;
  return child;
}

function cli(...args: string[]) {
  return Bun.spawnSync([process.execPath, 'projections/cli.ts', ...args], { cwd: ROOT, env });
}

test('the process follows the stream, survives kill -9, writes telemetry, and stops in order', async () => {
  const prefix = `P${Date.now().toString(36)}`;
  const random = seededRandom();
  const history = new FleetHistory(random, { units: 5, lockers: 3, prefix });
  const unit = `${prefix}-1000`;
  const append = async (commits: number) => {
    for (const commit of history.nextCommits(commits))
      await store.append({ ...commit, expectedSequence: await lastOf(commit) });
  };
  const recorded = async () =>
    (await store.tail(unit, 0)).reduce((events, message) => events + message.events().length, 0);
  const shown = async () => (await listEvents(readModelsOf(postgres), { unit, limit: 1, count: true })).total;

  await append(40);
  const first = await start();
  expect(await shown()).toBe(await recorded());
  await append(40);
  await eventually(async () => expect(await shown()).toBe(await recorded()));

  first.kill('SIGKILL');
  await first.exited;
  await append(40);
  const second = await start();
  expect(await shown()).toBe(await recorded());

  const at = Date.now();
  const result = answered({ unit, at, rttMs: 12.5, epoch: 'e', lastSeq: 7 });
  nats.publish(telemetrySubject('test'), encodeTelemetry('test', [result]));
  await eventually(async () => {
    const rows =
      await postgres.sql`select at, last_response_ms, last_seq from platform.unit_telemetry where unit = ${unit}`;
    expect([...rows]).toEqual([{ at: new Date(at), last_response_ms: 12.5, last_seq: 7 }]);
  });

  const status = cli('status');
  expect(status.exitCode).toBe(0);
  const table = status.stdout.toString();
  for (const { projection, schema } of await runStatus(postgres.sql)) {
    expect(table).toMatch(new RegExp(`^${projection} +\\d+ +${schema} +serving +\\d+ +\\d+ +\\d+ +0$`, 'm'));
  }

  const rebuilt = cli('rebuild', 'units');
  expect(rebuilt.stdout.toString()).toMatch(/^units: rebuilt from [\d,]+ events in 0:\d\d .*; the new run serves\.$/m);
  expect(rebuilt.exitCode).toBe(0);
  const unknown = cli('rebuild', 'nothing');
  expect(unknown.stdout.toString()).toBe(
    'There is no read model "nothing". The read models are: bookings, configuration, daily_summary, event_log, reservations, units.\n',
  );
  expect(unknown.exitCode).toBe(1);

  for (const name of ['units', 'bookings', 'reservations', 'event_log']) {
    const verified = cli('verify', name);
    expect(verified.stdout.toString()).toMatch(
      new RegExp(`^${name}: every row of \\d+ tables equals the fold of [\\d,]+ events\\.$`, 'm'),
    );
    expect(verified.exitCode).toBe(0);
  }
  const { schema } = await readModelsOf(postgres).servingRuns.find('units');
  const grid = postgres.sql(`${schema}.unit`);
  const [kept] = await postgres.sql<{ name: string }[]>`select display_name as name from ${grid} where unit = ${unit}`;
  await postgres.sql`update ${grid} set display_name = 'forged' where unit = ${unit}`;
  const differing = cli('verify', 'units');
  expect(differing.stdout.toString()).toContain(`unit: only in the run that serves: (${unit},`);
  expect(differing.stdout.toString()).toMatch(/^units: 2 rows differ from the fold of [\d,]+ events\.$/m);
  expect(differing.exitCode).toBe(1);
  await postgres.sql`update ${grid} set display_name = ${kept?.name ?? ''} where unit = ${unit}`;
  // What was compared with is gone.
  expect(await postgres.sql`select 1 from pg_tables where tablename like 'verify_%'`).toHaveLength(0);

  const cancelled = cli('cancel', 'units');
  expect(cancelled.stdout.toString()).toBe('units: no rebuild runs.\n');
  expect(cancelled.exitCode).toBe(1);
  expect(cli('parked', 'units').stdout.toString()).toBe('units: no unit is parked.\n');
  const retried = cli('retry', 'units', unit);
  expect(retried.stdout.toString()).toBe(`units: unit ${unit} is not parked.\n`);
  expect(retried.exitCode).toBe(1);

  const beforeMs = performance.now();
  second.kill('SIGTERM');
  expect(await second.exited).toBe(0);
  expect(performance.now() - beforeMs).toBeLessThan(STOP_LIMIT_MS);
}, 90_000);

test('the process has metrics of serving versions, lag and applied events', async () => {
  const prefix = `M${Date.now().toString(36)}`;
  const history = new FleetHistory(seededRandom(), { units: 3, lockers: 3, prefix });
  const append = async (commits: number) => {
    let events = 0;
    for (const commit of history.nextCommits(commits)) {
      await store.append({ ...commit, expectedSequence: await lastOf(commit) });
      events += commit.events.length;
    }
    return events;
  };
  await append(20);
  const port = freePort();
  const child = await start({ METRICS_PORT: String(port) });
  const of = (family: string, projection: string) => `lockfleet_projection_${family}{projection="${projection}"}`;
  const before = await metricsAt(port);
  const events = await append(30);
  const end = await store.lastSequence();
  const shown = await metricsWhen(port, (values) => (values.get(of('position', 'event_log')) ?? 0) >= end);
  expect(shown.get(of('lag_commits', 'event_log'))).toBe(0);
  expect(shown.get(of('parked_units', 'event_log'))).toBe(0);
  const applied = of('events_applied_total', 'event_log');
  expect((shown.get(applied) ?? 0) - (before.get(applied) ?? 0)).toBe(events);
  expect(shown.has(of('rebuild_share', 'units'))).toBe(false);

  const [run] = await postgres.sql<{ id: number }[]>`
    select id from platform.projection_runs where projection = 'bookings' and status = 'serving'`;
  await postgres.sql`
    insert into platform.projection_parked (run_id, unit, lane, position, reason)
    values (${run?.id ?? 0}, 'parked-unit', 0, 1, 'a test')`;
  const parked = await metricsAt(port);
  expect(parked.get(of('parked_units', 'bookings'))).toBe(1);
  expect(parked.get(of('parked_units', 'units'))).toBe(0);
  await postgres.sql`delete from platform.projection_parked where unit = 'parked-unit'`;

  expect(cli('rebuild', 'units').exitCode).toBe(0);
  expect((await metricsAt(port)).get(of('events_rebuilt_total', 'units'))).toBeGreaterThanOrEqual(events);
  child.kill('SIGTERM');
  expect(await child.exited).toBe(0);
}, 60_000);

test('the process continues after crashes of NATS and Postgres', async () => {
  const keys = (await testPlatform()).keys;
  const folder = await temporaryFolder('projections-crash');
  const [ownNats, ownPostgres] = await Promise.all([
    startEmbeddedNats({
      dataDir: join(folder, 'nats'),
      binary: await natsServerBinary(),
      config: await natsServerConfig(keys, join(folder, 'accounts')),
      port: 0,
      log: () => undefined,
    }),
    startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log: () => undefined }),
  ]);
  const creds = (await testPlatform()).creds;
  const own = await Nats.connect({ url: ownNats.url, creds, name: 'tests', log: quietLog });
  const pool = new Postgres({ url: ownPostgres.url, applicationName: 'tests', maxConnections: 2 });
  try {
    await ensureStreams(own);
    const ownStore = new NatsEventStore(
      own,
      () => Bun.randomUUIDv7(),
      () => performance.now(),
    );
    const history = new FleetHistory(seededRandom(), { units: 5, lockers: 3 });
    let events = 0;
    const append = async (commits: number) => {
      for (const commit of history.nextCommits(commits)) {
        events += commit.events.length;
        await eventually(async () => {
          const expected = (await ownStore.tail(commit.unit, 0)).filter(
            ({ aggregate }) => aggregate === commit.aggregate,
          );
          await ownStore.append({ ...commit, expectedSequence: expected.at(-1)?.sequence ?? 0 });
        });
      }
    };
    const isShown = () =>
      eventually(
        async () => expect((await listEvents(readModelsOf(pool), { limit: 1, count: true })).total).toBe(events),
        {
          timeoutMs: 30_000,
        },
      );
    const child = await start({ NATS_URL: ownNats.url, DATABASE_URL: ownPostgres.url });
    for (let round = 0; round < 3; round++) {
      await append(20);
      await isShown();
      process.kill(ownNats.pid ?? 0, 'SIGKILL');
      await append(20);
      await isShown();
      process.kill(ownPostgres.pid ?? 0, 'SIGKILL');
      await append(20);
      await isShown();
    }
    expect(child.exitCode).toBeNull();
    child.kill('SIGTERM');
    expect(await child.exited).toBe(0);
  } finally {
    await own.close();
    await pool.close(1);
    await Promise.all([ownNats.stop(), ownPostgres.stop()]);
  }
}, 120_000);

test('processes share the lanes, and no event is lost or repeated when one starts, stops or is killed', async () => {
  const prefix = `L${Date.now().toString(36)}`;
  const history = new FleetHistory(seededRandom(), { units: 20, lockers: 3, prefix });
  let events = 0;
  const append = async (commits: number) => {
    for (const commit of history.nextCommits(commits)) {
      await store.append({ ...commit, expectedSequence: await lastOf(commit) });
      if (commit.unit.startsWith(prefix)) events += commit.events.length;
    }
  };
  const shown = async () => {
    let count = 0;
    for (const unit of history.states.keys())
      count += (await listEvents(readModelsOf(postgres), { unit, limit: 1, count: true })).total ?? 0;
    return count;
  };
  const members: Bun.Subprocess[] = [await start(), await start()];
  for (let round = 0; round < 3; round++) {
    await append(30);
    const killed = members.shift();
    killed?.kill('SIGKILL');
    await append(30);
    await killed?.exited;
    members.push(await start());
    await append(30);
    // A rebuild is shared as well: who is killed in it is replaced.
    if (round === 1) expect(cli('rebuild', 'reservations').exitCode).toBe(0);
    await eventually(async () => expect(await shown()).toBe(events), { timeoutMs: 20_000 });
  }
  for (const name of ['units', 'bookings', 'reservations', 'event_log']) {
    const verified = cli('verify', name);
    expect(verified.stdout.toString()).toContain(`${name}: every row of`);
    expect(verified.exitCode).toBe(0);
  }
  for (const member of members) member.kill('SIGTERM');
  expect(await Promise.all(members.map((member) => member.exited))).toEqual([0, 0]);
}, 120_000);

test('an unknown command is refused with the usage', () => {
  for (const args of [[], ['rebuild'], ['rebuild', 'units', 'bookings'], ['status', 'units'], ['constructor']]) {
    const { exitCode, stderr } = cli(...args);
    expect(exitCode).toBe(2);
    expect(stderr.toString()).toContain('usage: ./run projections status');
  }
});

/** The sequences of a shared stream are not those of the history. */
async function lastOf({ unit, aggregate }: { readonly unit: string; readonly aggregate: string }): Promise<number> {
  const own = (await store.tail(unit, 0)).filter((message) => message.aggregate === aggregate);
  return own.at(-1)?.sequence ?? 0;
}

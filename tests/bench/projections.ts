/**
 * `projections`: how fast a process of projections follows and rebuilds, Postgres and NATS on the same machine. Beside it, in
 * the same run, bare inserts of the same rows, reads of the stream without applying the events, and emmett as a peer.
 */

import { setTimeout as pause } from 'node:timers/promises';
import { chunksOf } from '../../platform/batching/chunks-of.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { createLog } from '../../platform/observability/log.ts';
import { Postgres, type Sql } from '../../platform/postgres/connection.ts';
import { createProjections } from '../../projections/create-projections.ts';
import { requestRebuild } from '../../projections/engine/queries/rebuilds.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { readModelsOf } from '../support/projections.ts';
import { BATCH_COMMITS, publishHistory } from '../support/publish-history.ts';
import { seededRandom } from '../support/random.ts';
import { peakRssMbOf } from './processes.ts';
import { besideEmmett, conditionsOfEmmett, measureEmmett } from './projections-peer.ts';
import type { BenchReport, Figure } from './report.ts';

export interface ProjectionsScale {
  readonly events: number;
  readonly units: number;
  readonly steadyEventsPerS: number;
  readonly steadyS: number;
  /** The first events of the history, which the peer gets: its projectors take a minute for 20,000. */
  readonly peerEvents: number;
}

/** `BENCH_EVENTS=1000000 ./run bench projections` measures with another number of events. */
export const PROJECTIONS_SCALES = {
  full: {
    events: Number(process.env.BENCH_EVENTS ?? 300_000),
    units: 1_000,
    steadyEventsPerS: 5_000,
    steadyS: 30,
    peerEvents: 20_000,
  },
  smoke: { events: 1_000, units: 20, steadyEventsPerS: 2_000, steadyS: 1, peerEvents: 100 },
} as const satisfies Record<string, ProjectionsScale>;

const LOCKERS = 8;
const SEED = 1;
const NAMES = createProjections().map(({ name }) => name);
/** Those that fold states, for which there is a goal. */
const STATES: ReadonlySet<string> = new Set(['units', 'bookings', 'reservations']);
const MIN_TIMEOUT_MS = 600_000;
const POLL_MS = 50;
const STEADY_TICK_MS = 50;
const PROBE_MS = 10;
const MAX_BARE_ROWS = 100_000;
const BARE_ROWS_PER_INSERT = 1_000;
const MS_PER_S = 1_000;
const quiet = createLog(() => undefined, Date.now);

interface Setup {
  readonly scale: ProjectionsScale;
  readonly platform: Platform;
  readonly nats: Nats;
  readonly store: NatsEventStore;
  readonly postgres: Postgres;
  readonly history: FleetHistory;
}

export async function benchProjections(scale: ProjectionsScale): Promise<BenchReport> {
  const platform = await startPlatform({ purpose: 'bench-projections', durable: true });
  const nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'bench', log: quiet });
  const store = new NatsEventStore(
    nats,
    () => Bun.randomUUIDv7(),
    () => performance.now(),
  );
  const postgres = new Postgres({ url: platform.postgres.url, applicationName: 'bench', maxConnections: 4 });
  const history = new FleetHistory(seededRandom(SEED), { units: scale.units, lockers: LOCKERS });
  const setup: Setup = { scale, platform, nats, store, postgres, history };
  try {
    const end = await store.lastSequence();
    if (end !== 0) throw new Error(`the store of the benchmark is not empty: ${end}`);
    platform.projections.pause();
    // The server would react to the whole history, and ping units that do not exist.
    platform.server.pause();
    const events = await publishHistory(setup.nats, setup.history, scale.events);
    const live = await measureLive(setup, events);
    // Before the rebuilds, after which Postgres cleans up for a while.
    const lag = await measureLag(setup);
    const rebuilds = await measureRebuilds(setup);
    const bare = await measureBareInserts(postgres.sql);
    const reading = await measureReading(store);
    const fleet = { units: scale.units, lockers: LOCKERS, seed: SEED };
    const emmett = await measureEmmett(postgres, platform.postgres.url, {
      events: Math.min(events, scale.peerEvents),
      ...fleet,
    });
    const rateOf = (wanted: string) => rebuilds.find(({ name }) => name === wanted)?.rate ?? Number.NaN;
    const figures: Figure[] = [
      { name: 'live, into all read models', value: live, unit: 'events/s', goal: { atLeast: 40_000 } },
      ...rebuilds.map(({ name, rate }): Figure => {
        const figure = { name: `rebuild of ${name}`, value: rate, unit: 'events/s' };
        if (STATES.has(name)) return { ...figure, goal: { atLeast: 100_000 } };
        return name !== 'event_log'
          ? figure
          : { ...figure, against: { name: 'bare unnest inserts', value: bare }, goal: { atLeast: 0.5 } };
      }),
      ...besideEmmett({ eventLog: rateOf('event_log'), units: rateOf('units'), both: live }, emmett),
      { name: 'reading the stream without applying', value: reading, unit: 'events/s' },
      { name: `lag p99 at ${scale.steadyEventsPerS} events a second`, value: lag, unit: 'ms', goal: { atMost: 250 } },
      {
        name: 'peak memory of projections',
        value: peakRssMbOf(platform.projections.pid),
        unit: 'MiB',
        goal: { atMost: 500 },
      },
    ];
    return {
      bench: 'projections',
      conditions: [
        `${events} events of ${scale.units} units with ${LOCKERS} lockers, 1.5 in a commit, one process, durable settings`,
        'a rebuild counts from its beginning until it serves, while the other read models are followed',
        ...conditionsOfEmmett(emmett),
      ],
      figures,
    };
  } finally {
    platform.projections.resume();
    platform.server.resume();
    await nats.close();
    await postgres.close(1);
  }
}

/** A process that follows fewer than a thousand events a second fails the benchmark. */
function waitBounds({ events }: ProjectionsScale) {
  return { timeoutMs: Math.max(MIN_TIMEOUT_MS, events), intervalMs: POLL_MS };
}

/** Measures from the moment at which the process resumes until the read models have all events. */
async function measureLive(setup: Setup, events: number): Promise<number> {
  const end = await setup.store.lastSequence();
  const startedMs = performance.now();
  setup.platform.projections.resume();
  await eventually(async () => (await shownTo(setup.postgres.sql)) >= end, waitBounds(setup.scale));
  return (events / (performance.now() - startedMs)) * MS_PER_S;
}

async function measureRebuilds({ postgres, scale }: Setup): Promise<{ name: string; rate: number }[]> {
  const rates: { name: string; rate: number }[] = [];
  for (const name of NAMES) {
    const asked = await requestRebuild(postgres, name, 'bench');
    const row = await eventually(async () => {
      const [run] = await postgres.sql<{ rate: number }[]>`
        select (events / extract(epoch from served_at - started_at))::double precision as rate
        from platform.projection_runs where id = ${asked?.runId ?? 0} and status = 'serving'`;
      return run ?? false;
    }, waitBounds(scale));
    rates.push({ name, rate: row.rate });
  }
  return rates;
}

type BareRow = Readonly<
  Record<'sequence' | 'index' | 'unit' | 'type' | 'time' | 'recorded' | 'event', string> &
    Record<'locker' | 'actor' | 'correlation', string | null>
>;

/** Into an equal table with the same indexes, columns as arrays. */
async function measureBareInserts(sql: Sql): Promise<number> {
  const { schema } = await readModelsOf({ sql }).servingRuns.find('event_log');
  const table = sql(`${schema}.event`);
  const rows = await sql<BareRow[]>`
    select sequence::text, index::text, unit, locker, type, actor, correlation, time::text, recorded_at::text as recorded, event
    from ${table} order by sequence, index limit ${MAX_BARE_ROWS}`;
  await sql`create table bare (like ${table} including all)`;
  const startedMs = performance.now();
  for (const part of chunksOf(rows, BARE_ROWS_PER_INSERT)) {
    await sql`
      insert into bare (sequence, index, unit, locker, type, actor, correlation, time, recorded_at, event)
      select * from unnest(
        ${part.map(({ sequence }) => Number(sequence))}::bigint[], ${part.map(({ index }) => Number(index))}::smallint[],
        ${part.map(({ unit }) => unit)}::text[], ${part.map(({ locker }) => locker)}::text[],
        ${part.map(({ type }) => type)}::text[], ${part.map(({ actor }) => actor)}::text[],
        ${part.map(({ correlation }) => correlation)}::text[], ${part.map(({ time }) => time)}::timestamptz[],
        ${part.map(({ recorded }) => recorded)}::timestamptz[], ${part.map(({ event }) => event)}::text[])`;
  }
  return (rows.length / (performance.now() - startedMs)) * MS_PER_S;
}

async function measureReading(store: NatsEventStore): Promise<number> {
  const end = await store.lastSequence();
  const stop = new AbortController();
  const startedMs = performance.now();
  let events = 0;
  for await (const message of store.read({ after: 0, signal: stop.signal, onAlarm: () => undefined })) {
    events += message.events().length;
    if (message.sequence >= end) break;
  }
  stop.abort();
  return (events / (performance.now() - startedMs)) * MS_PER_S;
}

/** From the acknowledgement of a batch until every lane of every projection has passed it. @returns the 99th percentile, ms */
async function measureLag(setup: Setup): Promise<number> {
  const lags: number[] = [];
  const waiting: { readonly end: number; readonly atMs: number }[] = [];
  let isOver = false;
  const probing = (async () => {
    while (!isOver || waiting.length > 0) {
      const shown = await shownTo(setup.postgres.sql);
      const nowMs = performance.now();
      while (waiting[0] !== undefined && waiting[0].end <= shown) lags.push(nowMs - (waiting.shift()?.atMs ?? nowMs));
      await pause(PROBE_MS);
    }
  })();
  const untilMs = performance.now() + setup.scale.steadyS * MS_PER_S;
  let owed = 0;
  let tickMs = performance.now();
  while (performance.now() < untilMs) {
    owed += (setup.scale.steadyEventsPerS * (performance.now() - tickMs)) / MS_PER_S;
    tickMs = performance.now();
    if (owed >= BATCH_COMMITS / 2) {
      owed -= await publishHistory(setup.nats, setup.history, owed / 2);
      waiting.push({ end: await setup.store.lastSequence(), atMs: performance.now() });
    }
    await pause(STEADY_TICK_MS);
  }
  isOver = true;
  await probing;
  lags.sort((a, b) => a - b);
  return lags[Math.floor(lags.length * 0.99)] ?? Number.NaN;
}

/** Where the lane is that is furthest behind, of all projections. */
async function shownTo(sql: Sql): Promise<number> {
  const [row] = await sql<{ position: number | null; runs: number }[]>`
    select min(c.position) as position, count(distinct r.projection) as runs
    from platform.projection_runs r join platform.projection_checkpoints c on c.run_id = r.id
    where r.status = 'serving'`;
  return row?.runs === NAMES.length ? (row.position ?? 0) : 0;
}

/**
 * `ingest`: what units push until it stands in `EVENTS`, durable, through everything that lies between: the account of the
 * units, the import of their subjects, `UNIT_INBOX`, the worker and the event store.
 */

import { join } from 'node:path';
import { loadKeys } from '../../platform/credentials/keys.ts';
import { natsServerConfig, platformCreds } from '../../platform/credentials/nats-accounts.ts';
import { startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { ensureStreams } from '../../platform/nats/ensure-streams.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { atTheEnd, runCleanups, temporaryFolder } from '../support/cleanup.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { natsServerBinary } from '../support/services.ts';
import type { CeilingFindings, CeilingTask } from './ceiling.ts';
import { eventStore, importUnits, inboxDrained, readModelsCaughtUp, recorded, startGenerator } from './field.ts';
import type { LoadFindings, LoadTask } from './load.ts';
import { startMeasuring } from './measuring-process.ts';
import { cpuSecondsOf, peakRssMbOf, watchTree } from './processes.ts';
import type { PushFindings } from './push.ts';
import type { BenchReport, Figure } from './report.ts';
import type { AppendFindings, AppendTask } from './single-appends.ts';
import { LOCKERS } from './unit-log.ts';

const MILLION = 1_000_000;

/** How much is pushed, and for how long what is quiet is measured. */
export interface IngestScale {
  readonly steady: { readonly units: number; readonly eventsPerUnit: number; readonly batchEvents: number };
  readonly returning: { readonly units: number; readonly eventsPerUnit: number };
  readonly quietMs: number;
  readonly ceilingRunMs: number;
  readonly reserveWarmUpMs: number;
  /** Appends that are not counted, because they find the code cold. */
  readonly appendsToWarmUp: number;
}

export const INGEST_SCALES = {
  full: {
    steady: { units: 1_000, eventsPerUnit: 1_000, batchEvents: 50 },
    returning: { units: 5_000, eventsPerUnit: 200 },
    ...{ quietMs: 10_000, ceilingRunMs: 3_000, reserveWarmUpMs: 4_000, appendsToWarmUp: 100 },
  },
  smoke: {
    steady: { units: 10, eventsPerUnit: 100, batchEvents: 50 },
    returning: { units: 10, eventsPerUnit: 100 },
    ...{ quietMs: 300, ceilingRunMs: 100, reserveWarmUpMs: 200, appendsToWarmUp: 5 },
  },
} as const satisfies Record<string, IngestScale>;

const SEED = 20_260_701;
const APPENDS_PER_SECOND = 100;
/** The ceiling publishes again commits with this number of events. */
const CEILING_EVENTS = 200_000;
const DRAIN_TIMEOUT_MS = 150_000;
const RESERVES_PER_SECOND = 100;
const RESERVE_CLIENTS = 16;
const MAX_RESERVE_MS = 200_000;
const CUSTOMERS = 100;
const GOAL_EVENTS_PER_SECOND = 100_000;
const GOAL_RSS_MB = 300;

export async function benchIngest(scale: IngestScale): Promise<BenchReport> {
  const steady = await steadyStream(scale);
  // What is measured next must not share the machine with what was measured before.
  await runCleanups();
  const returning = await allBackAtOnce(scale);
  await runCleanups();
  const { units, batchEvents } = scale.steady;
  const conditions = [
    'NATS sync_interval always, Postgres fsync on; generators, server, NATS and Postgres on the same machine',
    'a connection with its own credentials for each unit, all from one process, one batch in flight each; made before the clock starts',
    `${units} units, batches of ${batchEvents}: ROLES=api,ingest, units connected, projections not running; ended by the store's time of the last commit`,
    `${scale.returning.units} units back at once: everything runs, connecting is part of it; each waits up to a second, pushes one batch, and beats`,
    'read back afterwards: every event of every unit stands in EVENTS once, in order, without a gap',
  ];
  return { bench: 'ingest', conditions, figures: [...steady, ...returning] };
}

async function steadyStream(scale: IngestScale): Promise<Figure[]> {
  const { quietMs, ceilingRunMs, appendsToWarmUp } = scale;
  const { units: unitCount, eventsPerUnit, batchEvents } = scale.steady;
  const platform = await startPlatform({ purpose: 'bench-ingest', env: { ROLES: 'api,ingest' }, durable: true });
  const nats = await connectTo(platform);
  const units = await importUnits(platform, names('PUSH', unitCount));
  await readModelsCaughtUp(platform, nats);
  await platform.projections.kill();
  const paced = { eventsPerUnit, batchEvents, returning: false, seed: SEED };
  const generator = await startGenerator({ natsUrl: platform.nats.url, units, ...paced });

  const appends = (run: string): AppendTask => {
    const { natsCreds } = platform;
    return { natsUrl: platform.nats.url, natsCreds, rate: APPENDS_PER_SECOND, run, warmUp: appendsToWarmUp };
  };
  const warmUpMs = (appendsToWarmUp * 1_000) / APPENDS_PER_SECOND;
  const quietly = startMeasuring<AppendFindings>('single-appends.ts', appends('QUIET'));
  await Bun.sleep(quietMs + warmUpMs);
  const quiet = await quietly.stop();

  const after = await eventStore(nats).lastSequence();
  const meanwhile = startMeasuring<AppendFindings>('single-appends.ts', appends('BUSY'));
  await Bun.sleep(warmUpMs);
  const usage = usageOf(platform);
  const pushed = await generator.go();
  await inboxDrained(nats, DRAIN_TIMEOUT_MS);
  const busy = await meanwhile.stop();
  const used = usage();

  const { events, lastAtMs } = await recorded(nats, after, units, eventsPerUnit);
  const ceiling = await measureCeiling({ platform, after, runMs: ceilingRunMs });
  await nats.close();
  const seconds = (lastAtMs - pushed.startedAtMs) / 1_000;
  const perSecond = events / seconds;
  const name = `recorded, batches of ${batchEvents} from ${unitCount} units`;
  const rate = { name, value: perSecond, unit: 'events per second' };
  const { eventsPerSecond, inFlight, bytesPerEvent } = ceiling;
  return [
    {
      ...rate,
      goal: { atLeast: GOAL_EVENTS_PER_SECOND },
      note: `${events} in ${seconds.toFixed(1)} s; ${described(pushed)}`,
    },
    {
      ...rate,
      against: { name: 'the same commits in atomic batches, nothing else', value: eventsPerSecond },
      goal: { atLeast: 0.5 },
      note: `the ceiling with ${inFlight} batches in flight; ${bytesPerEvent.toFixed(0)} bytes an event as stored`,
    },
    {
      name: 'p99 of single appends meanwhile',
      value: busy.p99Ms,
      unit: 'ms',
      against: { name: 'without pushes', value: quiet.p99Ms },
      goal: { atMost: 2 },
      note: `${APPENDS_PER_SECOND} a second, open loop: ${times(busy)}; quiet: ${times(quiet)}`,
    },
    {
      name: 'CPU of the server',
      value: (used.server * MILLION) / events,
      unit: 's per million events',
      note: `of NATS ${perMillion(used.nats, events)}, of the generator ${perMillion(pushed.cpuS, events)}`,
    },
    memoryOf(platform, 'server'),
    {
      name: 'peak memory of NATS',
      value: natsRssMb(platform),
      unit: 'MiB',
      note: `generator ${pushed.peakRssMb.toFixed(0)} MiB`,
    },
  ];
}

async function measureCeiling(of: { platform: Platform; after: number; runMs: number }): Promise<CeilingFindings> {
  const { platform, after, runMs } = of;
  const dataDir = await temporaryFolder('bench-ceiling');
  const keys = await loadKeys(dataDir);
  const equal = await startEmbeddedNats({
    dataDir: join(dataDir, 'nats'),
    binary: await natsServerBinary(),
    config: await natsServerConfig(keys, join(dataDir, 'nats', 'accounts')),
    port: 0,
    log: () => undefined,
  });
  atTheEnd(() => equal.stop());
  const to = { natsUrl: equal.url, natsCreds: await platformCreds(keys, 'ceiling') };
  const nats = await Nats.connect({ url: to.natsUrl, creds: to.natsCreds, name: 'bench', log: quietLog });
  await ensureStreams(nats);
  await nats.close();
  const from = { natsUrl: platform.nats.url, natsCreds: platform.natsCreds };
  const task: CeilingTask = { from, after, events: CEILING_EVENTS, to, runMs };
  return startMeasuring<CeilingFindings>('ceiling.ts', task).findings;
}

async function allBackAtOnce({ returning, quietMs, reserveWarmUpMs }: IngestScale): Promise<Figure[]> {
  const { units: unitCount, eventsPerUnit } = returning;
  const platform = await startPlatform({ purpose: 'bench-return', durable: true });
  const nats = await connectTo(platform);
  const postgres = platform.postgres.pid === undefined ? undefined : watchTree(platform.postgres.pid);
  const units = await importUnits(platform, names('BACK', unitCount));
  await readModelsCaughtUp(platform, nats);
  const paced = { eventsPerUnit, batchEvents: eventsPerUnit, returning: true, seed: SEED };
  const generator = await startGenerator({ natsUrl: platform.nats.url, units, ...paced });
  const tokens = await Promise.all(
    Array.from({ length: CUSTOMERS }, (_, index) => platform.token('customer', `customer-${index}`)),
  );
  const reserves = (seed: number, durationMs: number): LoadTask => {
    const port = Number(new URL(platform.api).port);
    const paced = { clients: RESERVE_CLIENTS, rate: RESERVES_PER_SECOND, durationMs, seed };
    return { port, tokens, units: units.map(({ name }) => name), lockers: LOCKERS, ...paced };
  };
  await startMeasuring<LoadFindings>('load.ts', reserves(SEED, reserveWarmUpMs)).findings;
  const quiet = await startMeasuring<LoadFindings>('load.ts', reserves(SEED + 1, quietMs)).findings;

  const after = await eventStore(nats).lastSequence();
  const meanwhile = startMeasuring<LoadFindings>('load.ts', reserves(SEED + 2, MAX_RESERVE_MS));
  const pushed = await generator.go();
  await inboxDrained(nats, DRAIN_TIMEOUT_MS);
  const busy = await meanwhile.stop();
  const drainedAtMs = Date.now();
  const behind = await readModelsCaughtUp(platform, nats).then(
    () => `the read models had them ${((Date.now() - drainedAtMs) / 1_000).toFixed(1)} s later`,
    (error: unknown) => `the read models: ${errorMessage(error)}`,
  );

  const { events, lastAtMs } = await recorded(nats, after, units, eventsPerUnit);
  await nats.close();
  postgres?.stop();
  return [
    {
      name: `${unitCount} units back at once with ${eventsPerUnit} events each, all recorded`,
      value: (lastAtMs - pushed.startedAtMs) / 1_000,
      unit: 's',
      goal: { atMost: 60 },
      note: `${events} events; ${described(pushed)}; ${behind}`,
    },
    {
      name: 'p99 of reserve meanwhile',
      value: busy.p99Ms,
      unit: 'ms',
      against: { name: 'without units that return', value: quiet.p99Ms },
      goal: { atMost: 2 },
      note: `${RESERVES_PER_SECOND} a second, open loop: ${answers(busy)}; quiet: ${answers(quiet)}`,
    },
    memoryOf(platform, 'server'),
    memoryOf(platform, 'projections'),
    {
      name: 'peak memory of NATS',
      value: natsRssMb(platform),
      unit: 'MiB',
      note: `Postgres, all its processes ${(postgres?.peakMb() ?? 0).toFixed(0)} MiB, generator ${pushed.peakRssMb.toFixed(0)} MiB`,
    },
  ];
}

function connectTo(platform: Platform): Promise<Nats> {
  return Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'bench', log: quietLog });
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}

/** From now on. */
function usageOf({ server, nats }: Platform): () => { readonly server: number; readonly nats: number } {
  const natsPid = nats.pid ?? 0;
  const before = { server: cpuSecondsOf(server.pid), nats: cpuSecondsOf(natsPid) };
  return () => ({ server: cpuSecondsOf(server.pid) - before.server, nats: cpuSecondsOf(natsPid) - before.nats });
}

function memoryOf(platform: Platform, process: 'server' | 'projections'): Figure {
  const value = peakRssMbOf(platform[process].pid);
  return { name: `peak memory of ${process}`, value, unit: 'MiB', goal: { atMost: GOAL_RSS_MB } };
}

function natsRssMb({ nats }: Platform): number {
  return nats.pid === undefined ? 0 : peakRssMbOf(nats.pid);
}

function described({ p50Ms, p99Ms, repeated }: PushFindings): string {
  return `pushes acknowledged after p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ${repeated} repeated`;
}

function times({ count, p50Ms, p99Ms, maxMs, failed }: AppendFindings): string {
  const unanswered = failed === 0 ? '' : `, ${failed} not answered`;
  return `${count}, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, max ${maxMs.toFixed(0)} ms${unanswered}`;
}

function answers({ p50Ms, p99Ms, statuses }: LoadFindings): string {
  const counts = Object.entries(statuses).map(([status, count]) => `${count} × ${status}`);
  return `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ${counts.join(', ')}`;
}

function perMillion(seconds: number, events: number): string {
  return `${((seconds * MILLION) / events).toFixed(1)} s`;
}

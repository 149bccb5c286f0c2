/**
 * `config`: rollouts to a simulated fleet while customers reserve, and what timers that wait cost. Everything runs on this
 * machine; the fleet is `device-sim`, with a listener, a connection to NATS and a durable store for each unit.
 */

import { Nats } from '../../platform/nats/connection.ts';
import { setTimers } from '../../platform/nats/timers.ts';
import { atTheEnd, runCleanups } from '../support/cleanup.ts';
import { Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import type { LoadFindings, LoadTask } from './load.ts';
import { startMeasuring } from './measuring-process.ts';
import { cpuSecondsOf } from './processes.ts';
import type { BenchReport, Figure } from './report.ts';

export interface ConfigScale {
  readonly units: number;
  readonly unitsPerMinute: number;
  readonly timers: number;
  /** How long reservations are measured without a rollout. */
  readonly quietMs: number;
  /** How long the CPU time is measured, without timers and with them. */
  readonly timersMs: number;
  /** Settings of the platform that differ from production. */
  readonly env: Readonly<Record<string, string>>;
}

export const CONFIG_SCALES = {
  full: { units: 5_000, unitsPerMinute: 6_000, timers: 10_000, quietMs: 20_000, timersMs: 20_000, env: {} },
  smoke: {
    ...{ units: 5, unitsPerMinute: 6_000, timers: 10, quietMs: 300, timersMs: 500 },
    // The pinger notices sooner that units are offline.
    env: { PING_INTERVAL_MS: '500', PING_TIMEOUT_MS: '200' },
  },
} as const satisfies Record<string, ConfigScale>;

const MS_PER_S = 1_000;
const LOCKERS = 4;
const OFFLINE_SHARE = 0.3;
const RESERVE_RATE = 100;
const RESERVE_CLIENTS = 32;
const ROLLOUT_TIMEOUT_MS = 300_000;
const FAR_MS = 3_600_000;
const START_TIMEOUT_MS = 240_000;
/** Requests to the simulator at once. */
const FAULTS_UNDER_WAY = 50;
const GOAL_ROLLOUT_S = 60;
const GOAL_RESERVE = 2;
const GOAL_OFFLINE = 1.1;
const GOAL_TIMER_CORES = 0.02;

export async function benchConfig(scale: ConfigScale): Promise<BenchReport> {
  try {
    const field = await startField(scale);
    const quiet = await reserve(field, scale.quietMs).findings;
    const rollout = await withLoad(field, () => rollOut(field, 9_000));
    const others = await someOffline(field);
    const figures = [...figuresOf(rollout, quiet), offlineFigure(others, rollout.tookS), await timersFigure(field)];
    return { bench: 'config', conditions: conditionsOf(scale), figures };
  } finally {
    await runCleanups();
  }
}

function conditionsOf({ units, unitsPerMinute, timers, timersMs }: ConfigScale): string[] {
  return [
    `${units.toLocaleString('en')} simulated units of ${LOCKERS} lockers, pushed to over HTTP; a rollout of ${unitsPerMinute.toLocaleString('en')} units a minute`,
    `meanwhile ${RESERVE_RATE} reservations a second, open loop; server with all roles, projections, device-sim, NATS and Postgres on this machine, durable`,
    `${timers.toLocaleString('en')} timers for the next hour; their cost over ${timersMs / MS_PER_S} s`,
  ];
}

interface Field {
  readonly scale: ConfigScale;
  readonly platform: Platform;
  readonly ops: Client;
  readonly names: readonly string[];
  readonly load: Omit<LoadTask, 'durationMs'>;
}

async function startField(scale: ConfigScale): Promise<Field> {
  const { units } = scale;
  const platform = await startPlatform({
    purpose: 'bench-config',
    units,
    durable: true,
    env: { ...scale.env, SIM_LOCKERS: String(LOCKERS) },
    readyTimeoutMs: START_TIMEOUT_MS,
  });
  const ops = new Client(platform.api, await platform.token('ops', 'bench'));
  const stateOf = async (state: string) => (await ops.get(`/v1/units?state=${state}&count=true&limit=1`)).body.total;
  await eventually(async () => (await stateOf('online')) === units, { timeoutMs: START_TIMEOUT_MS, intervalMs: 500 });
  const applied = async () =>
    items(await ops.get('/v1/units?limit=500')).every((row) => row.configStatus === 'applied');
  await eventually(applied, { timeoutMs: START_TIMEOUT_MS, intervalMs: 500 });
  const names = Array.from({ length: units }, (_, index) => `PL-${1000 + index}`);
  const tokens = await Promise.all(
    Array.from({ length: RESERVE_CLIENTS }, (_, index) => platform.token('customer', `c-${index}`)),
  );
  const load = {
    port: Number(new URL(platform.api).port),
    tokens,
    units: names,
    lockers: ['A', 'B', 'C', 'D'].slice(0, LOCKERS),
    clients: RESERVE_CLIENTS,
    rate: RESERVE_RATE,
    seed: 1,
  };
  return { scale, platform, ops, names, load };
}

function reserve({ load }: Field, durationMs: number, seed = load.seed) {
  return startMeasuring<LoadFindings>('load.ts', { ...load, durationMs, seed });
}

interface Measured {
  readonly tookS: number;
  readonly findings: LoadFindings;
}

async function withLoad(field: Field, work: () => Promise<number>): Promise<Measured> {
  // Other periods than before.
  const running = reserve(field, ROLLOUT_TIMEOUT_MS, field.load.seed + 1);
  const tookS = await work();
  return { tookS, findings: await running.stop() };
}

/** Changes something everywhere. @returns the seconds until `expected` units have proved it, by default all */
async function rollOut({ ops, scale }: Field, maximumMinutes: number, expected = scale.units): Promise<number> {
  const startMs = performance.now();
  const { body } = await ops.post('/v1/config-rollouts', {
    selection: { all: true },
    changes: { maximumMinutes },
    rate: { unitsPerMinute: scale.unitsPerMinute },
  });
  const isDone = async () => {
    const units = (await ops.get(`/v1/config-rollouts/${body.id}`)).body.units as { applied?: number } | undefined;
    return units?.applied === expected;
  };
  await eventually(isDone, { timeoutMs: ROLLOUT_TIMEOUT_MS, intervalMs: 500 });
  return (performance.now() - startMs) / MS_PER_S;
}

/** Cuts some of the fleet off, and changes the others. */
async function someOffline(field: Field): Promise<number> {
  const { ops, names } = field;
  const gone = names.slice(0, Math.floor(names.length * OFFLINE_SHARE));
  await setOffline(field, gone, true);
  const offline = async () => (await ops.get('/v1/units?state=offline&count=true&limit=1')).body.total === gone.length;
  await eventually(offline, { timeoutMs: START_TIMEOUT_MS, intervalMs: 500 });
  return rollOut(field, 8_000, names.length - gone.length);
}

async function setOffline({ platform }: Field, names: readonly string[], offline: boolean): Promise<void> {
  const sim = new Client(platform.sim);
  for (let first = 0; first < names.length; first += FAULTS_UNDER_WAY) {
    const batch = names.slice(first, first + FAULTS_UNDER_WAY);
    await Promise.all(batch.map((name) => sim.post(`/units/${name}/faults`, { offline })));
  }
}

function figuresOf({ tookS, findings }: Measured, quiet: LoadFindings): Figure[] {
  const describe = ({ p50Ms, p99Ms, count, statuses }: LoadFindings) =>
    `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms of ${count} (${JSON.stringify(statuses)})`;
  return [
    { name: 'a rollout to all units', value: tookS, unit: 's', goal: { atMost: GOAL_ROLLOUT_S } },
    {
      name: 'p99 of reserve meanwhile',
      value: findings.p99Ms,
      unit: 'ms',
      against: { name: 'when it is quiet', value: quiet.p99Ms },
      goal: { atMost: GOAL_RESERVE },
      note: `${describe(findings)}; quiet: ${describe(quiet)}`,
    },
  ];
}

function offlineFigure(tookS: number, allS: number): Figure {
  return {
    name: `the same with ${OFFLINE_SHARE * 100} % offline, until the others have it`,
    value: tookS,
    unit: 's',
    against: { name: 'with all online', value: allS },
    goal: { atMost: GOAL_OFFLINE },
  };
}

async function timersFigure({ platform, names, scale }: Field): Promise<Figure> {
  const nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'bench', log: quietLog });
  atTheEnd(() => nats.close());
  const natsPid = platform.nats.pid ?? 0;
  const cpuS = () => cpuSecondsOf(natsPid) + cpuSecondsOf(platform.server.pid);
  const cores = async () => {
    const before = cpuS();
    await Bun.sleep(scale.timersMs);
    return (cpuS() - before) / (scale.timersMs / MS_PER_S);
  };
  const without = await cores();
  const dueAtMs = Date.now() + FAR_MS;
  const timers = Array.from({ length: scale.timers }, (_, index) => ({
    unit: names[index % names.length] ?? '',
    name: `bench-${index}`,
    job: 'bench',
    dueAtMs,
  }));
  await setTimers(nats, timers, () => crypto.randomUUID());
  const withTimers = await cores();
  return {
    name: `${scale.timers.toLocaleString('en')} timers that wait: cores of server and NATS more than without`,
    value: withTimers - without,
    unit: 'cores',
    goal: { atMost: GOAL_TIMER_CORES },
    note: `${without.toFixed(3)} cores without, ${withTimers.toFixed(3)} with them, the fleet being pinged in both`,
  };
}

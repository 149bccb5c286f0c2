/**
 * `pinger`: a fleet of units that are pinged by UDP, all of it on this machine: the pinger as a process of its own, with
 * everything that it does, the units in another, and beside them NATS, Postgres, the API and the read models.
 */

import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import { decodeStatus, type PingerStatus, STATUS_FILTER } from '../../platform/liveness/pinger-status.ts';
import { decodeTelemetry, TELEMETRY_FILTER } from '../../platform/liveness/telemetry-message.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { atTheEnd, runCleanups, temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import type { BareFindings, BareTask } from './bare-pings.ts';
import { startMeasuring } from './measuring-process.ts';
import type { UnitsCommand, UnitsTask } from './pinger-units.ts';
import { cpuSecondsOf, peakRssMbOf } from './processes.ts';
import type { BenchReport, Figure } from './report.ts';
import { freeUdpPorts, startUnits } from './unit-processes.ts';

export interface PingerScale {
  readonly units: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly steadyMs: number;
  /** Units that die and come back. */
  readonly dying: number;
  /** Further units that answer late and report their true delay. */
  readonly late: number;
  /** How long the bare loop is measured. */
  readonly bareRunMs: number;
  /** The period that the figures of the pinger's status cover. */
  readonly statusWindowMs: number;
}

/** Two cores run the whole platform with 50,000 units. With 300,000 the cores are full, and the kernel drops datagrams. */
const FULL_SCALE: PingerScale = {
  units: 50_000,
  intervalMs: 10_000,
  timeoutMs: 2_000,
  steadyMs: 60_000,
  dying: 100,
  late: 1_000,
  bareRunMs: 20_000,
  statusWindowMs: 35_000,
};

const SMOKE_SCALE: PingerScale = {
  units: 40,
  intervalMs: 500,
  timeoutMs: 200,
  steadyMs: 1_500,
  dying: 4,
  late: 10,
  bareRunMs: 500,
  statusWindowMs: 1_000,
};

export const PINGER_SCALES = { full: FULL_SCALE, smoke: SMOKE_SCALE } as const;

const MS_PER_S = 1_000;
const FAILURES = 3;
/** Units that a line of an import is made of at once. */
const IMPORT_CHUNK = 5_000;
const ONLINE_TIMEOUT_MS = 900_000;
const DELAYS_MS = 50;
const RTT_INTERVALS = 3;
const US_PER_MS = 1_000;
const GOAL_IMPORT_PER_S = 2_000;
const GOAL_LAG_P99_MS = 5;
const GOAL_CORES = 0.5;
const GOAL_RSS_MB = 400;
const GOAL_RTT_ERROR_MS = 1;
const GOAL_HALF_DEAD = 1.1;

export async function benchPinger(scale: PingerScale): Promise<BenchReport> {
  const field = await startField(scale);
  try {
    const figures = [...(await joining(field)), ...(await bareLoop(field)), ...(await steady(field))];
    figures.push(...(await responseTimes(field)), ...(await detection(field)), ...(await halfDead(field)));
    return { bench: 'pinger', conditions: conditionsOf(scale), figures };
  } finally {
    await runCleanups();
  }
}

function conditionsOf({ units, intervalMs, timeoutMs, steadyMs }: PingerScale): string[] {
  return [
    `${units.toLocaleString('en')} units, UDP, every ${intervalMs / MS_PER_S} s, time-out ${timeoutMs} ms, ${FAILURES} misses to offline`,
    'everything on this machine: the pinger as a process of its own, the units in another, server (ROLES=api), projections, NATS and Postgres, durable',
    `steady for ${steadyMs / MS_PER_S} s; schedule lag as the pinger says, over the last half minute`,
  ];
}

interface Field {
  readonly scale: PingerScale;
  readonly platform: Platform;
  readonly nats: Nats;
  readonly unitsPid: number;
  readonly ports: readonly number[];
  readonly file: string;
  readonly importedPerS: number;
  /** The units that answer late, in a process of their own: what is measured is the pinger, and not who is pinged. */
  commandLate(command: UnitsCommand): void;
  readonly events: { readonly type: string; readonly unit: string; readonly atMs: number }[];
  command(command: UnitsCommand): void;
  status(): PingerStatus | undefined;
}

async function startField(scale: PingerScale): Promise<Field> {
  const env = {
    PING_INTERVAL_MS: String(scale.intervalMs),
    PING_TIMEOUT_MS: String(scale.timeoutMs),
    PING_FAILURES_TO_OFFLINE: String(FAILURES),
    ROLES: 'api',
  };
  const platform = await startPlatform({ purpose: 'bench-pinger', env, durable: true });
  const creds = platform.natsCreds;
  const nats = await Nats.connect({ url: platform.nats.url, creds, name: 'bench', log: quietLog });
  atTheEnd(() => nats.close());
  const { perS, task, units } = await registerAndStart(platform, 'BP', scale.units);
  const late = await startLateUnits(platform, scale.late);
  const events: Field['events'] = [];
  nats.subscribe('evt.*.*.*.connectivity', ({ subject, data }) => {
    const text = new TextDecoder().decode(data);
    const type = text.includes('"UnitWentOffline"') ? 'UnitWentOffline' : 'UnitWentOnline';
    events.push({ type, unit: subject.split('.')[3] ?? '', atMs: Date.now() });
  });
  let last: PingerStatus | undefined;
  nats.subscribe(STATUS_FILTER, ({ data }) => {
    last = decodeStatus(new TextDecoder().decode(data)) ?? last;
  });
  return {
    scale,
    platform,
    nats,
    unitsPid: units.pid,
    ...task,
    importedPerS: perS,
    commandLate: late.command,
    events,
    command: units.command,
    status: () => last,
  };
}

/** Registers units, and starts the process that plays them. */
async function registerAndStart(platform: Platform, prefix: string, count: number) {
  const ports = await freeUdpPorts();
  const { perS, lines } = await importUnits(platform, prefix, count, ports);
  const task: UnitsTask = { file: join(await temporaryFolder('bench-pinger-units'), prefix), ports };
  await Bun.write(task.file, lines.join('\n'));
  return { perS, task, units: await startUnits('pinger-units.ts', task) };
}

async function startLateUnits(platform: Platform, count: number) {
  const { units } = await registerAndStart(platform, 'BL', count);
  try {
    // They are the measure, and should not wait for a core while others work.
    setPriority(units.pid, constants.priority.PRIORITY_HIGHEST);
  } catch (error) {
    console.error(`response times include how long units wait for a core: ${errorMessage(error)}`);
  }
  return units;
}

const nameOf = (prefix: string, index: number) => `${prefix}-${index}`;
const ipOf = (index: number) => `127.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255 || 1}`;

async function importUnits(platform: Platform, prefix: string, units: number, ports: readonly number[]) {
  const authorization = await platform.token('ops', 'bench');
  const readable = async () => (await fetch(`${platform.api}/v1/units?limit=1`, { headers: { authorization } })).ok;
  await eventually(readable, { timeoutMs: ONLINE_TIMEOUT_MS });
  const lines: string[] = [];
  const startMs = performance.now();
  for (let first = 0; first < units; first += IMPORT_CHUNK) {
    const indexes = Array.from({ length: Math.min(IMPORT_CHUNK, units - first) }, (_, place) => first + place);
    const response = await fetch(`${platform.api}/v1/units/import`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/x-ndjson' },
      body: indexes
        .map(
          (index) =>
            `${JSON.stringify(registration(nameOf(prefix, index), `${ipOf(index)}:${ports[index % ports.length]}`))}\n`,
        )
        .join(''),
    });
    for (const line of (await response.text()).trimEnd().split('\n')) {
      const { name, credentials } = JSON.parse(line) as { name: string; credentials?: { unitKey: string } };
      if (credentials === undefined) throw new Error(`a unit was not registered: ${line}`);
      lines.push(`${name} ${Buffer.from(credentials.unitKey, 'base64').toString('hex')}`);
    }
  }
  return { perS: (units / (performance.now() - startMs)) * MS_PER_S, lines };
}

function registration(name: string, address: string) {
  return {
    name,
    address,
    probe: 'udp',
    delivery: 'push',
    commandChannel: 'http',
    location: { lat: 54, lon: 18 },
    timeZone: 'Europe/Warsaw',
    lockers: [{ id: 'A', size: 'M' }],
  };
}

let pinger: ReturnType<Platform['startPinger']> | undefined;

function pingerPid(): number {
  if (pinger === undefined) throw new Error('the pinger does not run');
  return pinger.pid;
}

async function joining({ platform, scale, status, importedPerS }: Field): Promise<Figure[]> {
  const startMs = performance.now();
  pinger = platform.startPinger({ ROLES: 'pinger' });
  await eventually(() => status()?.states.online === scale.units + scale.late, {
    timeoutMs: ONLINE_TIMEOUT_MS,
    intervalMs: 500,
  });
  const tookS = (performance.now() - startMs) / MS_PER_S;
  return [
    { name: 'units registered by import', value: importedPerS, unit: '/s', goal: { atLeast: GOAL_IMPORT_PER_S } },
    { name: 'start of the pinger to all units online', value: tookS, unit: 's', note: 'an event for each unit' },
  ];
}

let bareUs = Number.NaN;

async function bareLoop({ scale, file, ports }: Field): Promise<Figure[]> {
  const task: BareTask = { file, ports, intervalMs: scale.intervalMs, runMs: scale.bareRunMs };
  pinger?.pause();
  const found = await startMeasuring<BareFindings>('bare-pings.ts', task).findings;
  pinger?.resume();
  bareUs = found.cpuUsPerPing;
  return [
    {
      name: 'a bare loop: CPU per ping',
      value: found.cpuUsPerPing,
      unit: 'µs',
      note: `${found.sent} sent, ${found.answered} answered, lag p99 ${found.lagP99Ms} ms`,
    },
  ];
}

async function steady({ scale, platform, unitsPid, events, status }: Field): Promise<Figure[]> {
  // The pinger stood still while the ceiling was measured.
  await Bun.sleep(scale.statusWindowMs + scale.intervalMs);
  const pids = {
    pinger: pingerPid(),
    units: unitsPid,
    projections: platform.projections.pid,
    server: platform.server.pid,
  };
  const cpu = () => Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, cpuSecondsOf(pid)]));
  const [before, startMs, eventsBefore] = [cpu(), performance.now(), events.length];
  const pingsBefore = status()?.totals.pings ?? 0;
  await Bun.sleep(scale.steadyMs);
  const seconds = (performance.now() - startMs) / MS_PER_S;
  const after = cpu();
  const cores = (name: string) => ((after[name] ?? 0) - (before[name] ?? 0)) / seconds;
  const reported = status();
  const falsely = events.slice(eventsBefore).filter(({ type }) => type === 'UnitWentOffline').length;
  const pings = (reported?.totals.pings ?? 0) - pingsBefore;
  const usPerPing = (cores('pinger') * seconds * MS_PER_S * US_PER_MS) / pings;
  const { p99 = Number.NaN, max = Number.NaN } = reported?.scheduleLagMs ?? {};
  const rates = JSON.stringify(
    Object.fromEntries(Object.entries(reported?.rates ?? {}).map(([n, rate]) => [n, Math.round(rate)])),
  );
  const others = ['units', 'projections', 'server'].map((name) => `${name} ${cores(name).toFixed(2)}`).join(', ');
  return [
    { name: 'falsely offline', value: falsely, unit: 'units', goal: { atMost: 0 } },
    { name: 'schedule lag p99', value: p99, unit: 'ms', goal: { atMost: GOAL_LAG_P99_MS }, note: `max ${max} ms` },
    {
      name: 'the pinger',
      value: cores('pinger'),
      unit: 'cores',
      goal: { atMost: GOAL_CORES },
      note: `others: ${others}`,
    },
    { name: 'the pinger: peak memory', value: peakRssMbOf(pids.pinger), unit: 'MiB', goal: { atMost: GOAL_RSS_MB } },
    {
      name: 'CPU per ping',
      value: usPerPing,
      unit: 'µs',
      against: { name: 'a bare loop', value: bareUs },
      note: rates,
    },
  ];
}

/** Some units answer late and report their true delay. */
async function responseTimes({ scale, nats, commandLate }: Field): Promise<Figure[]> {
  const errorsMs: number[] = [];
  const stop = nats.subscribe(TELEMETRY_FILTER, ({ data }) => {
    for (const result of decodeTelemetry(new TextDecoder().decode(data))?.results ?? []) {
      const { last } = result.heard === 'pings' ? result : {};
      if (last?.lastSeq !== undefined && last.lastSeq > 0)
        errorsMs.push(Math.abs(last.rttMs - last.lastSeq / US_PER_MS));
    }
  });
  commandLate({ from: 0, to: scale.late, delaysMs: DELAYS_MS });
  await Bun.sleep(RTT_INTERVALS * scale.intervalMs);
  commandLate({ from: 0, to: scale.late, delaysMs: 0 });
  await Bun.sleep(scale.intervalMs);
  stop();
  errorsMs.sort((a, b) => a - b);
  const at = (share: number) => errorsMs[Math.floor(errorsMs.length * share)] ?? Number.NaN;
  return [
    {
      name: 'error of response times, p99',
      value: at(0.99),
      unit: 'ms',
      goal: { atMost: GOAL_RTT_ERROR_MS },
      note: `${errorsMs.length} answers, up to ${DELAYS_MS} ms late; p50 ${at(0.5).toFixed(2)} ms`,
    },
  ];
}

/** Some units die, and come back. */
async function detection({ scale, events, command }: Field): Promise<Figure[]> {
  const boundMs = FAILURES * scale.intervalMs + scale.timeoutMs;
  const names = new Set(Array.from({ length: scale.dying }, (_, index) => nameOf('BP', index)));
  const worst = async (type: string, withinMs: number, isDead: boolean) => {
    const seen = events.length;
    const atMs = Date.now();
    command({ from: 0, to: scale.dying, isDead });
    await Bun.sleep(withinMs + scale.intervalMs);
    const found = events.slice(seen).filter((event) => event.type === type && names.has(event.unit));
    return { found: found.length, ms: Math.max(...found.map((event) => event.atMs - atMs)) };
  };
  const offline = await worst('UnitWentOffline', boundMs, true);
  const online = await worst('UnitWentOnline', scale.intervalMs, false);
  const note = (found: number) => `${found} of ${scale.dying} units`;
  return [
    {
      name: 'dead to offline, the slowest',
      value: offline.ms,
      unit: 'ms',
      goal: { atMost: boundMs + MS_PER_S },
      note: note(offline.found),
    },
    {
      name: 'back to online, the slowest',
      value: online.ms,
      unit: 'ms',
      goal: { atMost: scale.intervalMs + MS_PER_S },
      note: note(online.found),
    },
  ];
}

async function halfDead({ scale, status, command }: Field): Promise<Figure[]> {
  const alive = status()?.scheduleLagMs.p99 ?? Number.NaN;
  command({ from: 0, to: Math.floor(scale.units / 2), isDead: true });
  await Bun.sleep(scale.statusWindowMs + scale.intervalMs);
  const reported = status();
  return [
    {
      name: 'schedule lag p99 with half of the units dead',
      value: reported?.scheduleLagMs.p99 ?? Number.NaN,
      unit: 'ms',
      against: { name: 'with all alive', value: alive },
      goal: { atMost: GOAL_HALF_DEAD },
      note: `states ${JSON.stringify(reported?.states)}, outages of ${reported?.outages.length} shards`,
    },
  ];
}

/**
 * `pinger-peers`: what a ping costs, beside what others take for one of the same units: a pinger in Go, the blackbox exporter of
 * Prometheus, and fping. All on this machine, one after another. CPU is that of the process which pings, with its threads.
 */

import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { freePort } from '../../platform/process/ports.ts';
import { pingPath } from '../../platform/unit-protocol/ping.ts';
import { atTheEnd, runCleanups, temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { debianGo, debianProgram } from './debian.ts';
import type { HttpUnitsTask } from './http-units.ts';
import { endChild } from './measuring-process.ts';
import type { UnitsTask } from './pinger-units.ts';
import type { PingsFindings, PingsTask } from './pings.ts';
import { cpuSecondsOf } from './processes.ts';
import type { BenchReport, Figure } from './report.ts';
import { freeUdpPorts, startUnits } from './unit-processes.ts';

const MS_PER_S = 1_000;
const US_PER_S = 1_000_000;
const KEY_BYTES = 32;
const NONCE_BYTES = 16;
const THREADS = 2;
const TIMEOUT_MS = 2_000;
/** What each has to begin with, more than it needs. */
const GRACE_MS = 20_000;
interface PingedFleet {
  readonly units: number;
  readonly intervalMs: number;
}

export interface PingerPeersScale {
  readonly http: PingedFleet;
  readonly udp: PingedFleet;
  /** A pinger runs for weeks: the seconds in which its code is compiled do not count. */
  readonly warmUpMs: number;
  readonly runMs: number;
  /** Whether peers that this machine lacks are downloaded or installed. */
  readonly installsPeers: boolean;
}

export const PINGER_PEERS_SCALES = {
  full: {
    http: { units: 4_000, intervalMs: 2_000 },
    udp: { units: 20_000, intervalMs: 2_000 },
    ...{ warmUpMs: 10_000, runMs: 10_000, installsPeers: true },
  },
  smoke: {
    http: { units: 40, intervalMs: 400 },
    udp: { units: 80, intervalMs: 400 },
    ...{ warmUpMs: 600, runMs: 1_000, installsPeers: false },
  },
} as const satisfies Record<string, PingerPeersScale>;

/** Probes that the exporter runs concurrently. */
const EXPORTER_PROBES = 16;
/** Later runs find net/http compiled. */
const GO_CACHE = resolve(import.meta.dir, '..', '..', '.toolchain', 'go-cache');
const GOAL_OF_GO = 1;
const GOAL_OF_EXPORTER = 5;
const GOAL_OF_FPING = 1;

interface Unit {
  readonly name: string;
  readonly key: Buffer;
  readonly ip: string;
}

/** Units, and where they listen. */
interface Fleet {
  readonly units: readonly Unit[];
  readonly file: string;
  readonly ports: readonly number[];
}

export async function benchPingerPeers(scale: PingerPeersScale): Promise<BenchReport> {
  try {
    const skipped: string[] = [];
    const http = await startHttpUnits(scale);
    const figures = [...(await overHttp(http.fleet, scale, skipped))];
    http.stop();
    const udp = await startUdpUnits(scale);
    figures.push(...(await byDatagrams(udp.fleet, scale, skipped)));
    return { bench: 'pinger-peers', conditions: [...conditions(scale), ...skipped], figures };
  } finally {
    await runCleanups();
  }
}

function conditions({ http, udp, warmUpMs, runMs }: PingerPeersScale): string[] {
  return [
    'everything on this machine; not the whole platform: the rounds, the pool, the probes of the pinger in a process of their own, the units in another',
    `each pings for ${runMs / MS_PER_S} s after ${warmUpMs / MS_PER_S} s that do not count; its CPU is that of its process with all threads`,
    `HTTP: ${http.units.toLocaleString('en')} units every ${http.intervalMs / MS_PER_S} s, ours on up to ${THREADS} threads; ours and that in Go sign each request and prove each answer by its MAC`,
    `datagrams: ${udp.units.toLocaleString('en')} units every ${udp.intervalMs / MS_PER_S} s; ours signs and proves each, an echo of ICMP is answered by the system, in part at the expense of who asks`,
  ];
}

async function overHttp(fleet: Fleet, scale: PingerPeersScale, skipped: string[]): Promise<Figure[]> {
  const go = await buildGoPings(scale);
  if (go === undefined) skipped.push(`no rows beside Go: golang-go ${absence(scale)}`);
  const figures: Figure[] = [];
  let ours: PingsFindings | undefined;
  for (const keepAlive of [false, true]) {
    const task = { ...taskOf(fleet, scale.http, scale), probe: 'http', keepAlive } as const;
    const own = await measure([process.execPath, resolve(import.meta.dir, 'pings.ts')], task);
    ours ??= own;
    const manner = keepAlive ? 'connections that are kept' : 'new connections';
    figures.push({
      name: `HTTP, ${manner}: pings per CPU second`,
      ...rate(own),
      ...(go === undefined ? {} : besideGo(await measure([go], task), own, keepAlive)),
    });
  }
  const exporter = await exporterRate(fleet, scale, skipped);
  if (exporter !== undefined && ours !== undefined) figures.splice(1, 0, besideExporter(ours, exporter));
  return figures;
}

function rate({ pings, answered, cpuS }: PingsFindings): Pick<Figure, 'value' | 'unit' | 'note'> {
  return { value: answered / cpuS, unit: '/s', note: `${answered} of ${pings} answered in ${cpuS.toFixed(2)} CPU s` };
}

function besideGo(go: PingsFindings, own: PingsFindings, keepAlive: boolean): Partial<Figure> {
  return {
    against: { name: 'net/http of Go', value: rate(go).value },
    ...(keepAlive ? {} : { goal: { atLeast: GOAL_OF_GO } }),
    note: `${rate(own).note}; Go: ${rate(go).note}`,
  };
}

function besideExporter(own: PingsFindings, exporter: PingsFindings): Figure {
  return {
    name: 'HTTP, new connections: pings per CPU second',
    ...rate(own),
    against: { name: 'blackbox_exporter', value: rate(exporter).value },
    goal: { atLeast: GOAL_OF_EXPORTER },
    note: `the exporter: ${rate(exporter).note}, ${EXPORTER_PROBES} concurrent probes, the MACs of its answers unproved`,
  };
}

async function byDatagrams(fleet: Fleet, scale: PingerPeersScale, skipped: string[]): Promise<Figure[]> {
  const task = { ...taskOf(fleet, scale.udp, scale), probe: 'udp', keepAlive: false } as const;
  const own = await measure([process.execPath, resolve(import.meta.dir, 'pings.ts')], task);
  const fping = await fpingRate(fleet, scale);
  if (fping === undefined)
    skipped.push(`no row beside fping: fping may not open its socket here, or ${absence(scale)}`);
  const costUs = ({ answered, cpuS }: PingsFindings) => (cpuS * US_PER_S) / answered;
  return [
    {
      name: 'UDP: CPU per ping',
      value: costUs(own),
      unit: 'µs',
      ...(fping === undefined
        ? {}
        : { against: { name: 'ICMP by fping', value: costUs(fping) }, goal: { atMost: GOAL_OF_FPING } }),
      note: [rate(own).note, ...(fping === undefined ? [] : [`fping: ${rate(fping).note}`])].join('; '),
    },
  ];
}

/** Why a peer is left out, after its name. */
function absence({ installsPeers }: PingerPeersScale): string {
  return installsPeers
    ? 'is not installed, and apt-get could not provide it'
    : 'is not installed, and this size installs nothing';
}

function taskOf({ file, ports }: Fleet, { intervalMs }: PingedFleet, { warmUpMs, runMs }: PingerPeersScale) {
  return { file, ports, intervalMs, threads: THREADS, timeoutMs: TIMEOUT_MS, warmUpMs, runMs };
}

/** Runs a process that takes a task as JSON, and prints what it found. */
async function measure(command: string[], task: PingsTask): Promise<PingsFindings> {
  const child = Bun.spawn(command, {
    stdin: new Blob([JSON.stringify(task)]),
    stdout: 'pipe',
    stderr: 'inherit',
    timeout: task.warmUpMs + task.runMs + GRACE_MS,
  });
  atTheEnd(() => endChild(child));
  return JSON.parse(await child.stdout.text()) as PingsFindings;
}

/** `undefined` where there is no Go. */
async function buildGoPings({ installsPeers }: PingerPeersScale): Promise<string | undefined> {
  const go = await debianGo(installsPeers);
  if (go === undefined) return undefined;
  const folder = await temporaryFolder('bench-go');
  const binary = join(folder, 'pings');
  const env = { ...process.env, GOCACHE: GO_CACHE, GO111MODULE: 'off', GOTOOLCHAIN: 'local' };
  const source = resolve(import.meta.dir, 'go-pings', 'main.go');
  const child = Bun.spawn([go, 'build', '-o', binary, source], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  atTheEnd(() => endChild(child));
  if ((await child.exited) !== 0) throw new Error('the pinger in Go cannot be built');
  return binary;
}

/** `undefined` where there is no exporter. */
async function exporterRate(
  { units, ports }: Fleet,
  scale: PingerPeersScale,
  skipped: string[],
): Promise<PingsFindings | undefined> {
  const [name, path] = ['prometheus-blackbox-exporter', 'usr/bin/prometheus-blackbox-exporter'];
  const program = await debianProgram(name, path, scale.installsPeers);
  if (program === undefined) {
    skipped.push(`no row beside blackbox_exporter: ${name} ${absence(scale)}`);
    return undefined;
  }
  const config = join(await temporaryFolder('bench-exporter'), 'config.yml');
  await Bun.write(config, 'modules: { ping: { prober: http, timeout: 2s, http: { preferred_ip_protocol: ip4 } } }\n');
  const address = `127.0.0.1:${freePort()}`;
  const child = Bun.spawn(
    [program, `--config.file=${config}`, `--web.listen-address=${address}`, '--log.level=error'],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  atTheEnd(() => endChild(child));
  await eventually(async () => (await fetch(`http://${address}/-/healthy`)).ok);
  let [pings, answered, next, isOver] = [0, 0, 0, false];
  const probing = Array.from({ length: EXPORTER_PROBES }, async () => {
    while (!isOver) {
      const unit = units[next % units.length];
      next += 1;
      if (unit === undefined) return;
      const request = { unit: unit.name, nonce: randomBytes(NONCE_BYTES).toString('hex'), clockMs: Date.now() };
      const target = `http://${unit.ip}:${ports[0]}${pingPath(unit.key, request)}`;
      const response = await fetch(`http://${address}/probe?module=ping&target=${encodeURIComponent(target)}`);
      pings += 1;
      if ((await response.text()).includes('\nprobe_success 1\n')) answered += 1;
    }
  });
  await Bun.sleep(scale.warmUpMs);
  const before = { pings, answered, cpuS: cpuSecondsOf(child.pid) };
  await Bun.sleep(scale.runMs);
  const cpuS = cpuSecondsOf(child.pid) - before.cpuS;
  const findings = { pings: pings - before.pings, answered: answered - before.answered, cpuS };
  isOver = true;
  await Promise.all(probing);
  child.kill();
  return findings;
}

/** Echoes of ICMP to the addresses of the units, as often as they are pinged. `undefined` where fping cannot. */
async function fpingRate(
  { units }: Fleet,
  { udp, runMs, installsPeers }: PingerPeersScale,
): Promise<PingsFindings | undefined> {
  const program = await debianProgram('fping', 'usr/bin/fping', installsPeers);
  if (program === undefined) return undefined;
  const addresses = `${units.map(({ ip }) => ip).join('\n')}\n`;
  const times = Math.ceil(runMs / udp.intervalMs);
  const pauseMs = udp.intervalMs / udp.units;
  const child = Bun.spawn(
    [program, '-q', '-s', '-c', String(times), '-p', String(udp.intervalMs), '-i', String(pauseMs)],
    { stdin: new Blob([addresses]), stdout: 'ignore', stderr: 'pipe', timeout: runMs + GRACE_MS },
  );
  atTheEnd(() => endChild(child));
  const said = await child.stderr.text();
  await child.exited;
  const pings = Number(/(\d+) ICMP Echos sent/.exec(said)?.[1]);
  const answered = Number(/(\d+) ICMP Echo Replies received/.exec(said)?.[1]);
  const cpuUs = child.resourceUsage()?.cpuTime.total;
  if (cpuUs === undefined || !(answered > 0)) return undefined;
  return { pings, answered, cpuS: Number(cpuUs) / US_PER_S };
}

async function newFleet(count: number): Promise<Omit<Fleet, 'ports'>> {
  const units = Array.from({ length: count }, (_, index) => ({
    name: `BP-${index}`,
    key: randomBytes(KEY_BYTES),
    ip: `127.1.${index >> 8}.${index & 255}`,
  }));
  const file = join(await temporaryFolder('bench-peers'), 'units');
  await Bun.write(file, units.map(({ name, key, ip }) => `${name} ${key.toString('hex')} ${ip}\n`).join(''));
  return { units, file };
}

async function startHttpUnits({ http }: PingerPeersScale) {
  const { units, file } = await newFleet(http.units);
  const task: HttpUnitsTask = { file };
  const { stop, said } = await startUnits('http-units.ts', task);
  return { stop, fleet: { units, file, ports: [Number(said)] } };
}

async function startUdpUnits({ udp }: PingerPeersScale) {
  const { units, file } = await newFleet(udp.units);
  const ports = await freeUdpPorts();
  const task: UnitsTask = { file, ports };
  const { stop } = await startUnits('pinger-units.ts', task);
  return { stop, fleet: { units, file, ports } };
}

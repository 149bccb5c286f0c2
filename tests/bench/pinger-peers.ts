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
/** A pinger runs for weeks: what is compiled in its first seconds counts for nothing. */
const WARM_UP_MS = 10_000;
const RUN_MS = 10_000;
/** What each has to begin with, more than it needs. */
const GRACE_MS = 20_000;
/** 2,000 pings a second. */
const HTTP = { units: 4_000, intervalMs: 2_000 } as const;
/** 10,000 pings a second. */
const UDP = { units: 20_000, intervalMs: 2_000 } as const;
/** Probes that the exporter has under way. */
const EXPORTER_PROBES = 16;
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

export async function benchPingerPeers(): Promise<BenchReport> {
  try {
    const skipped: string[] = [];
    const http = await startHttpUnits();
    const figures = [...(await overHttp(http.fleet, skipped))];
    http.stop();
    const udp = await startUdpUnits();
    figures.push(...(await byDatagrams(udp.fleet, skipped)));
    return { bench: 'pinger-peers', conditions: [...conditions(), ...skipped], figures };
  } finally {
    await runCleanups();
  }
}

function conditions(): string[] {
  return [
    'everything on this machine; not the whole platform: the rounds, the pool, the probes of the pinger in a process of their own, the units in another',
    `each pings for ${RUN_MS / MS_PER_S} s after ${WARM_UP_MS / MS_PER_S} s that do not count; its CPU is that of its process with all threads`,
    `HTTP: ${HTTP.units.toLocaleString('en')} units every ${HTTP.intervalMs / MS_PER_S} s, ours on up to ${THREADS} threads; ours and that in Go sign each request and prove each answer by its MAC`,
    `datagrams: ${UDP.units.toLocaleString('en')} units every ${UDP.intervalMs / MS_PER_S} s; ours signs and proves each, an echo of ICMP is answered by the system, in part at the expense of who asks`,
  ];
}

async function overHttp(fleet: Fleet, skipped: string[]): Promise<Figure[]> {
  const go = await buildGoPings();
  if (go === undefined) skipped.push('no rows beside Go: golang-go is not there and cannot be installed');
  const figures: Figure[] = [];
  let ours: PingsFindings | undefined;
  for (const keepAlive of [false, true]) {
    const task = { ...taskOf(fleet, HTTP), probe: 'http', keepAlive } as const;
    const own = await measure([process.execPath, resolve(import.meta.dir, 'pings.ts')], task);
    ours ??= own;
    const manner = keepAlive ? 'connections that are kept' : 'new connections';
    figures.push({
      name: `HTTP, ${manner}: pings per CPU second`,
      ...rate(own),
      ...(go === undefined ? {} : besideGo(await measure([go], task), own, keepAlive)),
    });
  }
  const exporter = await exporterRate(fleet, skipped);
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
    note: `the exporter: ${rate(exporter).note}, ${EXPORTER_PROBES} probes under way, the MACs of its answers unproved`,
  };
}

async function byDatagrams(fleet: Fleet, skipped: string[]): Promise<Figure[]> {
  const task = { ...taskOf(fleet, UDP), probe: 'udp', keepAlive: false } as const;
  const own = await measure([process.execPath, resolve(import.meta.dir, 'pings.ts')], task);
  const fping = await fpingRate(fleet);
  if (fping === undefined)
    skipped.push('no row beside fping: it is not there, cannot be had, or may not open its socket');
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

function taskOf({ file, ports }: Fleet, { intervalMs }: { readonly intervalMs: number }) {
  return { file, ports, intervalMs, threads: THREADS, timeoutMs: TIMEOUT_MS, warmUpMs: WARM_UP_MS, runMs: RUN_MS };
}

/** Runs a process that takes a task as JSON, and prints what it found. */
async function measure(command: string[], task: PingsTask): Promise<PingsFindings> {
  const child = Bun.spawn(command, {
    stdin: new Blob([JSON.stringify(task)]),
    stdout: 'pipe',
    stderr: 'inherit',
    timeout: WARM_UP_MS + RUN_MS + GRACE_MS,
  });
  atTheEnd(() => child.kill());
  return JSON.parse(await child.stdout.text()) as PingsFindings;
}

/** `undefined` where there is no Go. */
async function buildGoPings(): Promise<string | undefined> {
  const go = await debianGo();
  if (go === undefined) return undefined;
  const folder = await temporaryFolder('bench-go');
  const binary = join(folder, 'pings');
  const env = { ...process.env, GOCACHE: join(folder, 'cache'), GO111MODULE: 'off', GOTOOLCHAIN: 'local' };
  const source = resolve(import.meta.dir, 'go-pings', 'main.go');
  const child = Bun.spawn([go, 'build', '-o', binary, source], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  if ((await child.exited) !== 0) throw new Error('the pinger in Go cannot be built');
  return binary;
}

/** `undefined` where there is no exporter. */
async function exporterRate({ units, ports }: Fleet, skipped: string[]): Promise<PingsFindings | undefined> {
  const program = await debianProgram('prometheus-blackbox-exporter', 'usr/bin/prometheus-blackbox-exporter');
  if (program === undefined) {
    skipped.push('no row beside blackbox_exporter: it is not there and cannot be had');
    return undefined;
  }
  const config = join(await temporaryFolder('bench-exporter'), 'config.yml');
  await Bun.write(config, 'modules: { ping: { prober: http, timeout: 2s, http: { preferred_ip_protocol: ip4 } } }\n');
  const address = `127.0.0.1:${freePort()}`;
  const child = Bun.spawn(
    [program, `--config.file=${config}`, `--web.listen-address=${address}`, '--log.level=error'],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  atTheEnd(() => child.kill());
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
  await Bun.sleep(WARM_UP_MS);
  const before = { pings, answered, cpuS: cpuSecondsOf(child.pid) };
  await Bun.sleep(RUN_MS);
  const cpuS = cpuSecondsOf(child.pid) - before.cpuS;
  const findings = { pings: pings - before.pings, answered: answered - before.answered, cpuS };
  isOver = true;
  await Promise.all(probing);
  child.kill();
  return findings;
}

/** Echoes of ICMP to the addresses of the units, as often as they are pinged. `undefined` where fping cannot. */
async function fpingRate({ units }: Fleet): Promise<PingsFindings | undefined> {
  const program = await debianProgram('fping', 'usr/bin/fping');
  if (program === undefined) return undefined;
  const addresses = `${units.map(({ ip }) => ip).join('\n')}\n`;
  const times = Math.ceil(RUN_MS / UDP.intervalMs);
  const pauseMs = UDP.intervalMs / UDP.units;
  const child = Bun.spawn(
    [program, '-q', '-s', '-c', String(times), '-p', String(UDP.intervalMs), '-i', String(pauseMs)],
    { stdin: new Blob([addresses]), stdout: 'ignore', stderr: 'pipe', timeout: RUN_MS + GRACE_MS },
  );
  atTheEnd(() => child.kill());
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

async function startHttpUnits() {
  const { units, file } = await newFleet(HTTP.units);
  const task: HttpUnitsTask = { file };
  const { stop, said } = await startUnits('http-units.ts', task);
  return { stop, fleet: { units, file, ports: [Number(said)] } };
}

async function startUdpUnits() {
  const { units, file } = await newFleet(UDP.units);
  const ports = await freeUdpPorts();
  const task: UnitsTask = { file, ports };
  const { stop } = await startUnits('pinger-units.ts', task);
  return { stop, fleet: { units, file, ports } };
}

/**
 * `reserve`: the whole HTTP path of a hold, durable, beside the same route over a Postgres table with an exclusion
 * constraint. Server, load generator, NATS and Postgres share the machine; each process runs by itself.
 */

import { resolve } from 'node:path';
import { signToken } from '../../platform/auth/tokens.ts';
import { startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { atTheEnd, temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { startPlatform } from '../support/platform.ts';
import { registrationBody } from '../support/registration.ts';
import type { LoadFindings, LoadTask } from './load.ts';
import { endChild, startMeasuring } from './measuring-process.ts';
import type { BenchReport, Figure } from './report.ts';

const LOCKERS = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'];
const REGISTRATION = { address: '127.0.0.1:9', lockers: LOCKERS.map((id) => ({ id, size: 'M' as const })) };
const CUSTOMERS = 200;
const SECRET = 'a secret that only this benchmark knows, long enough';
const SEED = 20_260_701;

export interface ReserveScale {
  readonly units: number;
  /** How long each row is measured. */
  readonly runMs: number;
  readonly warmUpMs: number;
  /** Requests a second of the open loop. */
  readonly openLoopRate: number;
}

export const RESERVE_SCALES = {
  full: { units: 4_000, runMs: 8_000, warmUpMs: 5_000, openLoopRate: 1_000 },
  smoke: { units: 20, runMs: 300, warmUpMs: 200, openLoopRate: 100 },
} as const satisfies Record<string, ReserveScale>;

export async function benchReserve(scale: ReserveScale): Promise<BenchReport> {
  const units = Array.from({ length: scale.units }, (_, index) => `BENCH-${index}`);
  const tokens = await Promise.all(Array.from({ length: CUSTOMERS }, (_, index) => bearer(`customer-${index}`)));
  const task = { tokens, units, lockers: LOCKERS, seed: SEED };

  const peer = await startPeer();
  const product = await startProduct(units);
  const figures: Figure[] = [];
  await load({ ...task, port: peer.port, clients: 32, durationMs: scale.warmUpMs });
  await load({ ...task, port: product.port, clients: 32, durationMs: scale.warmUpMs, seed: SEED + 1 });
  for (const [clients, goal] of [
    [32, 1],
    [128, 1.5],
  ] as const) {
    const theirs = await load({ ...task, port: peer.port, clients, durationMs: scale.runMs, seed: SEED + clients });
    const ours = await load({ ...task, port: product.port, clients, durationMs: scale.runMs, seed: SEED + clients });
    figures.push(compared(`reserve, ${clients} clients, everything running`, ours, theirs, goal));
    const alone = await product.withoutProjections(() =>
      load({ ...task, port: product.port, clients, durationMs: scale.runMs, seed: SEED + 2 * clients }),
    );
    figures.push(compared(`reserve, ${clients} clients, projections standing still`, alone, theirs, goal));
  }
  await product.caughtUp();
  const openTask = { ...task, port: product.port, clients: 128, durationMs: scale.runMs, rate: scale.openLoopRate };
  figures.push(openLoop('everything running', scale, await load(openTask)));
  const quiet = await product.withoutProjections(() => load({ ...openTask, seed: SEED + 3 }));
  figures.push(openLoop('projections standing still', scale, quiet));
  const conditions = [
    `${scale.units} units of ${LOCKERS.length} lockers, ${CUSTOMERS} customers, ${scale.runMs / 1_000} s a row, random free periods`,
    'NATS sync_interval always; Postgres fsync and synchronous_commit on; load generator on the same machine',
  ];
  return { bench: 'reserve', conditions, figures };
}

function compared(name: string, ours: LoadFindings, theirs: LoadFindings, atLeast: number): Figure {
  return {
    name,
    value: held(ours),
    unit: 'held per second',
    against: { name: 'the exclusion constraint', value: held(theirs) },
    goal: { atLeast },
    note: `${describe(ours)}; peer: ${describe(theirs)}`,
  };
}

function openLoop(name: string, { openLoopRate }: ReserveScale, findings: LoadFindings): Figure {
  return {
    name: `p99 at ${openLoopRate} a second, open loop, ${name}`,
    value: findings.p99Ms,
    unit: 'ms',
    goal: { atMost: 25 },
    note: describe(findings),
  };
}

function held({ perSecond, statuses, count }: LoadFindings): number {
  return (perSecond * (statuses['201'] ?? 0)) / count;
}

function describe({ p50Ms, p99Ms, statuses, cpuS, late }: LoadFindings): string {
  const answers = Object.entries(statuses).map(([status, count]) => `${count} × ${status}`);
  const behind = late === 0 ? '' : `, ${late} were due when no client was free`;
  return `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ${answers.join(', ')}, generator ${cpuS.toFixed(1)} CPU s${behind}`;
}

async function startPeer(): Promise<{ readonly port: number }> {
  const dataDir = await temporaryFolder('bench-peer');
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => undefined });
  atTheEnd(() => postgres.stop());
  const child = Bun.spawn([process.execPath, resolve(import.meta.dir, 'peer-server.ts')], {
    stdin: new Blob([JSON.stringify({ databaseUrl: postgres.url, secret: SECRET })]),
    stdout: 'pipe',
    stderr: 'inherit',
  });
  atTheEnd(() => endChild(child));
  for await (const chunk of child.stdout) {
    const port = /ready (\d+)/.exec(new TextDecoder().decode(chunk))?.[1];
    if (port !== undefined) return { port: Number(port) };
  }
  throw new Error('the peer did not start');
}

async function startProduct(units: readonly string[]) {
  const platform = await startPlatform({
    purpose: 'bench-reserve',
    env: { ROLES: 'api,reactor', AUTH_JWT_SECRET: SECRET },
    durable: true,
  });
  const ops = await bearer('bench', 'ops');
  const lines = units.map((name) => JSON.stringify(registrationBody(name, REGISTRATION)));
  const answer = await fetch(`${platform.api}/v1/units/import`, {
    method: 'POST',
    headers: { authorization: ops, 'content-type': 'application/x-ndjson' },
    body: `${lines.join('\n')}\n`,
  });
  const problems = (await answer.text()).split('\n').filter((line) => line.includes('"problem"'));
  if (problems.length > 0) throw new Error(`units were not registered: ${problems[0]}`);
  const total = () => count(platform.api, ops);
  await eventually(async () => (await total()) === units.length, { timeoutMs: 60_000 });
  return {
    port: Number(new URL(platform.api).port),
    withoutProjections: async <T>(run: () => Promise<T>): Promise<T> => {
      process.kill(platform.projections.pid, 'SIGSTOP');
      try {
        return await run();
      } finally {
        process.kill(platform.projections.pid, 'SIGCONT');
      }
    },
    /** Waits until the read models have everything, so that the next row does not pay for the one before. */
    caughtUp: async () => {
      const hold = await fetch(`${platform.api}/v1/reservations/`, {
        method: 'POST',
        headers: { authorization: await bearer('marker'), 'content-type': 'application/json' },
        body: JSON.stringify({ unit: units[0], locker: 'A', ...farAway() }),
      });
      const position = hold.headers.get('lockfleet-position') ?? '0';
      await eventually(
        async () => {
          const seen = await fetch(`${platform.api}/v1/events?limit=1&minPosition=${position}`, {
            headers: { authorization: ops },
          });
          return seen.status === 200;
        },
        { timeoutMs: 120_000 },
      );
    },
  };
}

async function count(api: string, ops: string): Promise<number> {
  const answer = await fetch(`${api}/v1/units?limit=1&count=true`, { headers: { authorization: ops } });
  return ((await answer.json()) as { total?: number }).total ?? 0;
}

function farAway() {
  const fromMs = Date.now() + 360 * 86_400_000;
  return { from: new Date(fromMs).toISOString(), until: new Date(fromMs + 3_600_000).toISOString() };
}

async function bearer(sub: string, role: 'customer' | 'ops' = 'customer'): Promise<string> {
  return `Bearer ${await signToken({ secret: SECRET, sub, role, ttlS: 3_600, nowMs: Date.now() })}`;
}

function load(task: LoadTask): Promise<LoadFindings> {
  return startMeasuring<LoadFindings>('load.ts', task).findings;
}

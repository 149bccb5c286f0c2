/**
 * A process with few descriptors that pings two units on a real thread, one by UDP and one over HTTP: while it has too few for the
 * sockets of the thread, when it has them, when it has none left, and after that. Prints what came of it as JSON.
 */

import { closeSync, openSync } from 'node:fs';
import { unitHash } from '../../domain/shard.ts';
import { PingPool } from '../../pinger/pool/ping-pool.ts';
import { PING_ANOMALIES } from '../../pinger/probes/probe.ts';
import { PROBE_NUMBERS, UnitTable } from '../../pinger/units/unit-table.ts';
import { createLog } from '../../platform/observability/log.ts';

export interface StarvedTask {
  readonly udp: { readonly name: string; readonly port: number };
  readonly http: { readonly name: string; readonly port: number };
  /** Of both, in hex. */
  readonly key: string;
}

export interface StarvedFindings {
  /** Outcomes by UDP and over HTTP, and pings that were not sent; no outcomes where the thread could do nothing. */
  readonly starts: StarvedPing;
  readonly sated: StarvedPing;
  readonly starved: StarvedPing;
  readonly again: StarvedPing;
  readonly log: string;
}

interface StarvedPing {
  readonly outcomes: readonly number[];
  readonly unsent: number;
}

const TIMEOUT_MS = 1_000;
/** What a thread needs to load its code, and less than its sockets. */
const LEFT_TO_START = 12;
const PINGED_UNITS = 2;

const { udp, http, key } = JSON.parse(process.argv[2] ?? '') as StarvedTask;
const table = UnitTable.create(PINGED_UNITS);
for (const [index, { name, port }] of [udp, http].entries()) {
  const probe = index === 0 ? PROBE_NUMBERS.udp : PROBE_NUMBERS.http;
  table.write(index, { name, hash: unitHash(name), ip: '127.0.0.1', port, probe, key: Buffer.from(key, 'hex') });
}
const lines: string[] = [];
const log = createLog((line) => lines.push(line), Date.now);
const settings = { table: table.shared, timeoutMs: TIMEOUT_MS, httpKeepAlive: false };
const worker = new URL('../../pinger/pool/worker.ts', import.meta.url);
const pool = new PingPool({ worker, threads: 1, taskMs: TIMEOUT_MS, settings, log });
const held: number[] = [];

async function ping(): Promise<StarvedPing> {
  const units = Uint32Array.from({ length: PINGED_UNITS }, (_, index) => index);
  const results = await pool.ping(0, { startMs: Date.now(), units, offsetsMs: new Float32Array(PINGED_UNITS) });
  return {
    outcomes: [...(results?.outcomes ?? [])],
    unsent: results?.anomalies[PING_ANOMALIES.indexOf('unsent')] ?? 0,
  };
}

function holdAllBut(left: number): void {
  try {
    for (;;) held.push(openSync('/dev/null', 'r'));
  } catch {
    release(left);
  }
}

function release(count: number): void {
  for (const descriptor of held.splice(0, count)) closeSync(descriptor);
}

holdAllBut(LEFT_TO_START);
const starts = await ping();
// What was opened in vain must not be held: the same room is there each time.
for (let time = 0; time < 3; time += 1) await ping();
release(held.length);
const sated = await ping();
holdAllBut(0);
const starved = await ping();
release(held.length);
// A connection that failed in the second after would say nothing; one that comes about does.
const again = await ping();
const findings: StarvedFindings = { starts, sated, starved, again, log: lines.join('') };
console.log(JSON.stringify(findings));
await pool.stop();
process.exit(0);

/**
 * A process with a network and few ports of its own that pings a unit over HTTP on a real thread: while all ports are taken, and
 * when there are more. Prints what came of it as JSON.
 */

import { writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { unitHash } from '../../domain/shard.ts';
import { PingPool } from '../../pinger/pool/ping-pool.ts';
import { PING_ANOMALIES } from '../../pinger/probes/probe.ts';
import { PROBE_NUMBERS, UnitTable } from '../../pinger/units/unit-table.ts';
import { createLog } from '../../platform/observability/log.ts';
import { ScriptableUnit } from './scriptable-unit.ts';

export interface PortlessFindings {
  /** Outcomes of one ping, and how many were not sent. */
  readonly portless: { readonly outcomes: readonly number[]; readonly unsent: number };
  readonly again: { readonly outcomes: readonly number[]; readonly unsent: number };
}

const TIMEOUT_MS = 1_000;
const PORT_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
/** The sockets of UDP need 32 as well. */
const FEW_PORTS = '40000 40063';
const MORE_PORTS = '40000 40127';
const MAX_HELD = 128;

writeFileSync(PORT_RANGE, FEW_PORTS);
const unit = new ScriptableUnit({ name: 'PL-HTTP', key: new Uint8Array(32) });
await unit.listen();
const { port } = unit;
const table = UnitTable.create(1);
const row = {
  name: unit.name,
  hash: unitHash(unit.name),
  ip: '127.0.0.1',
  port,
  probe: PROBE_NUMBERS.http,
  key: unit.key,
};
table.write(0, row);
const log = createLog((line) => process.stderr.write(line), Date.now);
const settings = { table: table.shared, timeoutMs: TIMEOUT_MS, httpKeepAlive: false };
const worker = new URL('../../pinger/pool/worker.ts', import.meta.url);
const pool = new PingPool({ worker, threads: 1, taskMs: TIMEOUT_MS, settings, log });

async function ping() {
  const task = { startMs: Date.now(), units: new Uint32Array(1), offsetsMs: new Float32Array(1) };
  const results = await pool.ping(0, task);
  return {
    outcomes: [...(results?.outcomes ?? [])],
    unsent: results?.anomalies[PING_ANOMALIES.indexOf('unsent')] ?? 0,
  };
}

/** Connections to the unit, until there is no port for another one. */
async function takePorts(): Promise<void> {
  const held: Socket[] = [];
  for (let opened = true; opened; ) {
    if (held.length >= MAX_HELD) throw new Error('there is no end of ports');
    const socket = connect({ host: '127.0.0.1', port });
    held.push(socket);
    opened = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
  }
}

await takePorts();
const portless = await ping();
writeFileSync(PORT_RANGE, MORE_PORTS);
const again = await ping();
const findings: PortlessFindings = { portless, again };
console.log(JSON.stringify(findings));
await pool.stop();
process.exit(0);

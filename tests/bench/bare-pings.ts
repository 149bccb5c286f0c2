/**
 * The ceiling of `pinger`: a loop that does nothing but ping by UDP, with a nonce, a MAC and a check of the answer for each,
 * evenly over the interval. Takes a task as JSON on stdin, prints its findings.
 */

import { randomFillSync } from 'node:crypto';
import { LagHistogram } from '../../pinger/telemetry/lag-histogram.ts';
import {
  beginPing,
  isSealed,
  nameHash,
  PING_DATAGRAM_BYTES,
  REQUEST_AT,
  replyNonce,
  seal,
  writeU64,
} from '../../platform/unit-protocol/datagram.ts';

export interface BareTask {
  /** A file with the name and the key (hex) of a unit on each line. */
  readonly file: string;
  /** Unit number n listens at the one with this number, modulo how many there are. */
  readonly ports: readonly number[];
  readonly intervalMs: number;
  readonly runMs: number;
}

export interface BareFindings {
  readonly sent: number;
  readonly answered: number;
  readonly cpuUsPerPing: number;
  readonly lagP99Ms: number;
}

const STEP_MS = 2;
const SOCKETS = 16;
const MAX_BURST = 32;
const PERCENTILE = 99;

const task = (await Bun.stdin.json()) as BareTask;
const units = (await Bun.file(task.file).text())
  .trimEnd()
  .split('\n')
  .map((line, index) => {
    const [name = '', key = ''] = line.split(' ');
    return {
      hash: nameHash(name),
      key: Buffer.from(key, 'hex'),
      ip: `127.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`,
    };
  });
let answered = 0;
const sockets = await Promise.all(
  Array.from({ length: SOCKETS }, () =>
    Bun.udpSocket({
      hostname: '0.0.0.0',
      binaryType: 'buffer',
      socket: {
        data(_, reply) {
          const unit = units[replyNonce(reply)?.readUInt32LE(0) ?? -1];
          if (unit !== undefined && isSealed(unit.key, reply)) answered += 1;
        },
      },
    }),
  ),
);
const requests = Array.from({ length: MAX_BURST }, () => {
  const request = Buffer.alloc(PING_DATAGRAM_BYTES);
  beginPing(request);
  return request;
});
const lags = new LagHistogram();
const cpu = process.cpuUsage();
const startMs = performance.now();
let sent = 0;
while (performance.now() - startMs < task.runMs) {
  const due = Math.floor(((performance.now() - startMs) / task.intervalMs) * units.length);
  while (sent < due) sendBurst(Math.min(MAX_BURST, due - sent));
  await Bun.sleep(STEP_MS);
}
const { user, system } = process.cpuUsage(cpu);
const lagP99Ms = lags.percentileMs(PERCENTILE);
const findings: BareFindings = { sent, answered, cpuUsPerPing: (user + system) / sent, lagP99Ms };
console.log(JSON.stringify(findings));
process.exit(0);

function sendBurst(count: number): void {
  const packets: (Buffer | number | string)[] = [];
  const nowMs = performance.now();
  for (let place = 0; place < count; place += 1) {
    const index = (sent + place) % units.length;
    const [unit, request] = [units[index], requests[place]];
    if (unit === undefined || request === undefined) continue;
    randomFillSync(request, REQUEST_AT.nonce, 16);
    request.writeUInt32LE(index, REQUEST_AT.nonce);
    unit.hash.copy(request, REQUEST_AT.nameHash);
    writeU64(request, Date.now(), REQUEST_AT.clock);
    packets.push(seal(unit.key, request), task.ports[index % task.ports.length] ?? 0, unit.ip);
    lags.record(nowMs - startMs - ((sent + place) * task.intervalMs) / units.length);
  }
  sockets[((sent / MAX_BURST) % SOCKETS) | 0]?.sendMany(packets);
  sent += count;
}

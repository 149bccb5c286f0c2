import { expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { PING_OUTCOME } from '../../pinger/pool/slot-results.ts';
import { encodePingReply, REQUEST_AT } from '../../platform/unit-protocol/datagram.ts';
import { FakeUnit } from '../support/fake-unit.ts';
import type { StarvedFindings, StarvedTask } from '../support/starved-pinger.ts';

const MAX_DESCRIPTORS = 160;

test('a process without free file descriptors pings less, logs it, counts no misses, and recovers', async () => {
  const key = randomBytes(32);
  const http = new FakeUnit('PL-HTTP', '127.0.0.1', key);
  await http.listen();
  const reply = {
    flags: 0,
    bootId: '00'.repeat(8),
    uptimeS: 1,
    configurationHash: 'ab'.repeat(8),
    epoch: '018f0000-0000-7000-8000-000000000001',
    lastSeq: 5,
    clockMs: 1_780_000_000_000,
  };
  const udp = await Bun.udpSocket({
    hostname: '127.0.0.1',
    binaryType: 'buffer',
    socket: {
      data(from, request, port, address) {
        const nonce = request.subarray(REQUEST_AT.nonce, REQUEST_AT.nonce + 16);
        from.send(encodePingReply(key, nonce, reply), port, address);
      },
    },
  });
  const task: StarvedTask = {
    udp: { name: 'PL-UDP', port: udp.port },
    http: { name: http.name, port: Number(http.address.split(':')[1]) },
    key: key.toString('hex'),
  };
  const script = resolve(import.meta.dir, '..', 'support', 'starved-pinger.ts');
  const child = Bun.spawn(
    ['sh', '-c', `ulimit -n ${MAX_DESCRIPTORS} && exec "$@"`, 'sh', process.execPath, script, JSON.stringify(task)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const output = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  udp.close();
  await http.stopListening();
  const { starts, sated, starved, again, log } = JSON.parse(output) as StarvedFindings;
  const { answered, discarded } = PING_OUTCOME;
  expect(starts).toEqual({ outcomes: [], unsent: 0 });
  expect(log).toContain('Pinging on a thread fails.');
  expect(log).toContain('Pinging on a thread works again.');
  expect(sated).toEqual({ outcomes: [answered, answered], unsent: 0 });
  // The sockets of UDP are there; a connection is not to be had.
  expect(starved).toEqual({ outcomes: [answered, discarded], unsent: 1 });
  expect(again).toEqual({ outcomes: [answered, answered], unsent: 0 });
}, 30_000);

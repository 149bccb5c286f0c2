import { expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { PING_OUTCOME } from '../../pinger/pool/slot-results.ts';
import { ScriptableUnit } from '../support/scriptable-unit.ts';
import type { StarvedFindings, StarvedTask } from '../support/starved-pinger.ts';

const MAX_DESCRIPTORS = 160;

test('a process without free file descriptors pings less, logs it, counts no misses, and recovers', async () => {
  const key = randomBytes(32);
  const [udp, http] = [new ScriptableUnit({ name: 'PL-UDP', key }), new ScriptableUnit({ name: 'PL-HTTP', key })];
  const udpPort = await udp.listenForDatagrams();
  await http.listen();
  const task: StarvedTask = {
    udp: { name: udp.name, port: udpPort },
    http: { name: http.name, port: http.port },
    key: key.toString('hex'),
  };
  const script = resolve(import.meta.dir, '..', 'support', 'starved-pinger.ts');
  const child = Bun.spawn(
    ['sh', '-c', `ulimit -n ${MAX_DESCRIPTORS} && exec "$@"`, 'sh', process.execPath, script, JSON.stringify(task)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const output = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  await Promise.all([udp.stop(), http.stop()]);
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

import { expect, test } from 'bun:test';
import { resolve } from 'node:path';
import { PING_OUTCOME } from '../../pinger/pool/slot-results.ts';
import type { PortlessFindings } from '../support/portless-pinger.ts';

/** In a network of its own, where a process may say how many ports there are. */
const OWN_NETWORK = ['unshare', '--map-root-user', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];

function hasOwnNetwork(): boolean {
  return Bun.which('unshare') !== null && Bun.spawnSync([...OWN_NETWORK, 'true']).exitCode === 0;
}

test.if(hasOwnNetwork())(
  'a ping for which there is no port is not sent, and misses nobody',
  async () => {
    const script = resolve(import.meta.dir, '..', 'support', 'portless-pinger.ts');
    const child = Bun.spawn([...OWN_NETWORK, process.execPath, script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const output = await child.stdout.text();
    expect(await child.exited).toBe(0);
    const { portless, again } = JSON.parse(output) as PortlessFindings;
    expect(portless).toEqual({ outcomes: [PING_OUTCOME.discarded], unsent: 1 });
    expect(again).toEqual({ outcomes: [PING_OUTCOME.answered], unsent: 0 });
  },
  30_000,
);

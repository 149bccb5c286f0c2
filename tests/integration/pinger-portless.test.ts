import { expect, test } from 'bun:test';
import { resolve } from 'node:path';
import { PING_OUTCOME } from '../../pinger/pool/slot-results.ts';
import type { PortlessFindings } from '../support/portless-pinger.ts';

/** Runs a program in a network of its own, in which it may set the range of local ports. */
const IN_OWN_NETWORK = ['unshare', '--map-root-user', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];

/** @throws when this machine cannot give a process a network of its own: the test then fails by this name, and is not skipped */
function requireOwnNetwork(): void {
  const hasUnshare = Bun.which('unshare') !== null;
  if (hasUnshare && Bun.spawnSync([...IN_OWN_NETWORK, 'true']).exitCode === 0) return;
  throw new Error(
    `A process without free ports cannot be tried here: ${hasUnshare ? '`unshare --map-root-user --net` failed' : '`unshare` is missing'}. ` +
      'Install util-linux and iproute2, run the test as root, or allow user namespaces ' +
      '(`sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu).',
  );
}

test('a ping without a free port is discarded as unsent, and the next one with a port is answered', async () => {
  requireOwnNetwork();
  const script = resolve(import.meta.dir, '..', 'support', 'portless-pinger.ts');
  const child = Bun.spawn([...IN_OWN_NETWORK, process.execPath, script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const output = await child.stdout.text();
  expect(await child.exited).toBe(0);
  const { portless, again } = JSON.parse(output) as PortlessFindings;
  expect(portless).toEqual({ outcomes: [PING_OUTCOME.discarded], unsent: 1 });
  expect(again).toEqual({ outcomes: [PING_OUTCOME.answered], unsent: 0 });
}, 30_000);

import { describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { processIdentity } from '../../platform/process/identity.ts';
import {
  type ChildGaveUpError,
  type ChildSpec,
  MAX_CRASHES_IN_A_ROW,
  type SupervisedChild,
  superviseChild,
} from '../../platform/process/supervise.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';

interface Watched {
  readonly child: SupervisedChild;
  readonly lines: string[];
  readonly gaveUp: ChildGaveUpError[];
}

/** Supervises a shell script, with waits short enough for a test. */
function watch(script: string, spec: Partial<ChildSpec> = {}): Watched {
  const lines: string[] = [];
  const gaveUp: ChildGaveUpError[] = [];
  const child = superviseChild({
    name: 'fixture',
    command: ['/bin/sh', '-c', script],
    readyWhen: { line: /ready/ },
    backoff: { firstMs: 5, maxMs: 20 },
    log: (line) => lines.push(line),
    onGiveUp: (error) => gaveUp.push(error),
    ...spec,
  });
  return { child, lines, gaveUp };
}

/** The number in the last line that starts with a word. */
const numberAfter = (lines: readonly string[], word: string) =>
  Number(lines.findLast((line) => line.startsWith(word))?.slice(word.length));

const isAlive = (pid: number) => processIdentity(pid) !== undefined;

describe('a supervised child', () => {
  test('is started again after a crash, until it is stopped', async () => {
    const { child, lines } = watch('echo ready; exec sleep 60');
    await child.start();
    const first = child.pid ?? 0;
    process.kill(first, 'SIGKILL');
    const second = await eventually(() => child.pid !== undefined && child.pid !== first && child.pid);
    await child.stop();
    expect(lines).toContain('was killed by SIGKILL: starting it again in 5 ms');
    expect([isAlive(first), isAlive(second), child.pid]).toEqual([false, false, undefined]);
  });

  test('that ends with its terminal status is not started again, and its line says why', async () => {
    const { child, lines, gaveUp } = watch('echo once; echo "lockfleet: the token is refused" >&2; exit 2', {
      readyWhen: 'spawned',
      terminalStatus: 2,
    });
    await child.start();
    await eventually(() => gaveUp.length > 0);
    expect(gaveUp[0]?.message).toBe('fixture cannot run: the token is refused');
    await child.stop();
    expect(lines.filter((line) => line === 'once')).toHaveLength(1);
  });

  test('ends its grandchildren when it is stopped', async () => {
    const { child, lines } = watch('sleep 60 & echo "grandchild $!"; echo ready; wait');
    await child.start();
    const grandchild = numberAfter(lines, 'grandchild ');
    expect(isAlive(grandchild)).toBe(true);
    await child.stop();
    await eventually(() => !isAlive(grandchild));
  });

  test('that crashes leaves no grandchild to the next one', async () => {
    const { child, lines } = watch('sleep 60 & echo "grandchild $!"; echo ready; wait');
    await child.start();
    const grandchild = numberAfter(lines, 'grandchild ');
    process.kill(child.pid ?? 0, 'SIGKILL');
    await eventually(() => !isAlive(grandchild));
    await child.stop();
  });

  test('that ignores SIGTERM is killed after its grace period', async () => {
    const { child, lines } = watch("trap '' TERM; echo ready; while :; do sleep 1; done");
    await child.start();
    const pid = child.pid ?? 0;
    await child.stop({ graceMs: 50 });
    expect(lines).toContain('did not end within 50 ms of SIGTERM: killing it');
    expect(isAlive(pid)).toBe(false);
  });

  test('that never becomes ready is given up with its last output', async () => {
    const { child, lines } = watch('echo starting; echo "no disk" >&2; exit 3');
    await expect(child.start()).rejects.toThrow(/^fixture exited with code 3, 8 times in a row[\s\S]*no disk/);
    expect(lines.filter((line) => line === 'starting')).toHaveLength(MAX_CRASHES_IN_A_ROW);
  });

  test('that is not ready in time counts as crashed', async () => {
    const { child } = watch('exec sleep 60', { readyTimeoutMs: 20, maxCrashesBeforeReady: 2 });
    await expect(child.start()).rejects.toThrow('was killed by SIGKILL, 2 times in a row');
  });

  test('that crashes repeatedly after it was ready is given up with an error in the log', async () => {
    const { child, gaveUp } = watch('echo ready; exit 1');
    await child.start();
    await eventually(() => gaveUp.length === 1);
    expect(gaveUp[0]?.message).toContain('fixture exited with code 1');
    await child.stop();
  });

  test('can be ready by a probe', async () => {
    let probes = 0;
    const probe = async () => ++probes === 3;
    const { child } = watch('exec sleep 60', { readyWhen: { probe } });
    await child.start();
    expect(probes).toBe(3);
    await child.stop();
  });

  test('stopped while it waits for its next start stays stopped', async () => {
    const { child } = watch('echo ready; exit 1', { backoff: { firstMs: 60_000, maxMs: 60_000 } });
    await child.start();
    await eventually(() => child.pid === undefined);
    await child.stop();
    expect(child.pid).toBeUndefined();
  });

  test('that an earlier supervisor left behind is ended first', async () => {
    const pidFile = join(await temporaryFolder('supervision'), 'fixture.pid');
    const orphaned = watch('echo ready; exec sleep 60', { pidFile, backoff: { firstMs: 60_000, maxMs: 60_000 } });
    await orphaned.child.start();
    const orphan = orphaned.child.pid ?? 0;
    const next = watch('echo ready; exec sleep 60', { pidFile });
    await next.child.start();
    expect(isAlive(orphan)).toBe(false);
    await Promise.all([orphaned.child.stop(), next.child.stop()]);
  });

  test('that cannot be run at all is an error at once', async () => {
    const { child } = watch('', { command: ['/nowhere/to/be/found'] });
    await expect(child.start()).rejects.toThrow('/nowhere/to/be/found');
  });
});

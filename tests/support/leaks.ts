import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

type TimerKind = 'setTimeout' | 'setInterval';

/** A timer that holds the process, and where it was made. */
interface LiveTimer {
  readonly kind: TimerKind;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly madeAt: string;
}

const TCP_STATES = new Map([
  ['01', 'connected to'],
  ['0A', 'listening on'],
]);

/**
 * Notes every timer from now on.
 * @returns a function that lists those that still run and hold the process.
 */
export function watchTimers(): () => string[] {
  const live = new Map<number, LiveTimer>();
  const { setTimeout: realTimeout, setInterval: realInterval, clearTimeout: realClear } = globalThis;
  const note = (kind: TimerKind, timer: ReturnType<typeof setTimeout>) => {
    live.set(Number(timer), { kind, timer, madeAt: callerOf(new Error()) });
    return timer;
  };
  const timeout = (handler: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) => {
    const timer = realTimeout(
      (...given: unknown[]) => {
        live.delete(Number(timer));
        handler(...given);
      },
      ms,
      ...args,
    );
    return note('setTimeout', timer);
  };
  const interval = (handler: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) =>
    note('setInterval', realInterval(handler, ms, ...args));
  const clear = (timer: unknown) => {
    live.delete(Number(timer));
    realClear(timer as Parameters<typeof clearTimeout>[0]);
  };
  Object.assign(globalThis, {
    setTimeout: Object.assign(timeout, realTimeout),
    setInterval: interval,
    clearTimeout: clear,
    clearInterval: clear,
  });
  return () =>
    [...live.values()].filter(({ timer }) => timer.hasRef()).map(({ kind, madeAt }) => `${kind} made ${madeAt}`);
}

/** The first line of a stack that is neither this file nor the place that reports. */
function callerOf(error: Error): string {
  const lines = (error.stack ?? '').split('\n').slice(1);
  return (lines.find((line) => !line.includes('/tests/support/leaks.ts')) ?? 'somewhere').trim();
}

/** The sockets of this process that listen or are connected, in words. Empty where there is no /proc. */
export function openSockets(): string[] {
  if (!existsSync('/proc/self/fd')) return [];
  const mine = new Set(readdirSync('/proc/self/fd').map(inodeOf));
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((protocol) =>
    readFileSync(`/proc/self/net/${protocol}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , , , , , , , inode]) => inode !== undefined && mine.has(inode))
      .flatMap(([, local, remote, state]) => describeSocket(protocol, local, remote, state)),
  );
}

function inodeOf(descriptor: string): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${descriptor}`))?.[1];
  } catch {
    // The descriptor that listed the folder is gone by now.
    return undefined;
  }
}

function describeSocket(protocol: string, local = '', remote = '', state = ''): string[] {
  if (protocol.startsWith('udp')) return [`${protocol} on port ${portOf(local)}`];
  const word = TCP_STATES.get(state);
  return word === undefined ? [] : [`${protocol} ${word} port ${portOf(state === '0A' ? local : remote)}`];
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':').at(-1) ?? '', 16);
}

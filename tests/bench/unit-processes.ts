/** Processes that play units which are pinged, and where those listen. */

import { resolve } from 'node:path';
import { atTheEnd } from '../support/cleanup.ts';
import { endChild } from './measuring-process.ts';

/** Sockets of the units: each has room for few hundred datagrams. */
const PORTS = 16;

export interface UnitsProcess {
  readonly pid: number;
  /** What it said when it was ready. */
  readonly said: string;
  command(command: object): void;
  stop(): void;
}

/** Starts a process of this folder that takes a task as JSON on its first line, and commands after it. */
export async function startUnits(script: string, task: object): Promise<UnitsProcess> {
  const child = Bun.spawn([process.execPath, resolve(import.meta.dir, script)], {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
  });
  const stop = () => child.kill();
  atTheEnd(() => endChild(child));
  const command = (line: object) => {
    child.stdin.write(`${JSON.stringify(line)}\n`);
    void child.stdin.flush();
  };
  command(task);
  const { value } = await child.stdout.getReader().read();
  if (value === undefined) throw new Error(`${script} did not start`);
  return { pid: child.pid, said: new TextDecoder().decode(value), command, stop };
}

export async function freeUdpPorts(): Promise<number[]> {
  const open = () => Bun.udpSocket({ hostname: '0.0.0.0' });
  const sockets = await Promise.all(Array.from({ length: PORTS }, open));
  const ports = sockets.map(({ port }) => port);
  for (const socket of sockets) socket.close();
  return ports;
}

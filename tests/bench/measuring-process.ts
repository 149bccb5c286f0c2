/** Processes of this folder that measure or generate load beside the benchmark, so that they do not share its thread. */

import { resolve } from 'node:path';
import { atTheEnd } from '../support/cleanup.ts';

/** What a script prints once it obeys SIGTERM, on a line of its own. */
export const READY_LINE = 'ready';

export interface MeasuringProcess<T> {
  /** Resolves with the findings when the process has ended by itself. */
  readonly findings: Promise<T>;
  /** Ends the process before its time. @returns what it found until then */
  stop(): Promise<T>;
}

/**
 * Starts a script of this folder that reads a task as JSON from standard input, prints `READY_LINE` once SIGTERM ends it in order, and
 * prints its findings as JSON on its last line.
 */
export function startMeasuring<T>(script: string, task: object): MeasuringProcess<T> {
  const child = Bun.spawn([process.execPath, resolve(import.meta.dir, script)], {
    stdin: new Blob([JSON.stringify(task)]),
    stdout: 'pipe',
    stderr: 'inherit',
  });
  atTheEnd(() => endChild(child));
  const ready = Promise.withResolvers<void>();
  const findings = readFindings<T>(script, child, ready.resolve);
  // A benchmark that fails, or is ended by a signal, never awaits the findings.
  findings.catch(ready.reject);
  ready.promise.catch(() => undefined);
  return {
    findings,
    stop: async () => {
      await ready.promise;
      child.kill('SIGTERM');
      return findings;
    },
  };
}

async function readFindings<T>(
  script: string,
  child: Bun.Subprocess<Blob, 'pipe', 'inherit'>,
  onReady: () => void,
): Promise<T> {
  const decoder = new TextDecoder();
  let output = '';
  for await (const chunk of child.stdout) {
    output += decoder.decode(chunk, { stream: true });
    if (output.split('\n').includes(READY_LINE)) onReady();
  }
  const status = await child.exited;
  if (status !== 0)
    throw new Error(`${script} ended with ${child.signalCode ?? `status ${status}`} and without findings`);
  onReady();
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as T;
}

/** Kills a process, and waits until it is gone. */
export async function endChild(child: Pick<Bun.Subprocess, 'kill' | 'exited'>): Promise<void> {
  child.kill('SIGKILL');
  await child.exited;
}

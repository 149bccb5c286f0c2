/** The field for benchmarks: registered units, the processes that play them, and what is recorded of them. */

import { join, resolve } from 'node:path';
import type { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { api } from '../../platform/nats/jetstream.ts';
import { atTheEnd, temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { registrationBody } from '../support/registration.ts';
import { endChild } from './measuring-process.ts';
import type { PushFindings, PushTask } from './push.ts';
import type { UnitIdentity } from './unit-connection.ts';
import { LOCKERS } from './unit-log.ts';

const PROJECTIONS_TIMEOUT_MS = 120_000;
const INBOX_INTERVAL_MS = 50;

/** The platform learns that these units are online by their heartbeats: nothing listens at their address. */
const REGISTRATION = {
  address: '127.0.0.1:9',
  probe: 'nats',
  commandChannel: 'nats',
  lockers: LOCKERS.map((id) => ({ id, size: 'M' as const })),
} as const;

/** Registers units over REST, and gives what each needs to connect. */
export async function importUnits(platform: Platform, names: readonly string[]): Promise<UnitIdentity[]> {
  const authorization = await platform.token('ops', 'bench');
  // The first decision on a unit reads a snapshot: the projections must have made their tables.
  const readable = async () => (await fetch(`${platform.api}/v1/units?limit=1`, { headers: { authorization } })).ok;
  await eventually(readable, { timeoutMs: PROJECTIONS_TIMEOUT_MS });
  const response = await fetch(`${platform.api}/v1/units/import`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/x-ndjson' },
    body: names.map((name) => `${JSON.stringify(registrationBody(name, REGISTRATION))}\n`).join(''),
  });
  const lines = (await response.text()).split('\n').filter((line) => line !== '');
  const units = lines.map((line) => {
    const { name, credentials } = JSON.parse(line) as { name: string; credentials?: Omit<UnitIdentity, 'name'> };
    if (credentials === undefined) throw new Error(`a unit was not registered: ${line}`);
    return { name, natsCreds: credentials.natsCreds, natsInboxPrefix: credentials.natsInboxPrefix };
  });
  if (units.length !== names.length) throw new Error(`${units.length} of ${names.length} units were registered`);
  return units;
}

/** Waits until the read models have everything that stands in `EVENTS` now. */
export async function readModelsCaughtUp(platform: Platform, nats: Nats): Promise<void> {
  const position = await eventStore(nats).lastSequence();
  const headers = { authorization: await platform.token('ops', 'bench') };
  const path = `/v1/events?limit=1&minPosition=${position}`;
  const caughtUp = async () => (await fetch(`${platform.api}${path}`, { headers })).status === 200;
  await eventually(caughtUp, { timeoutMs: PROJECTIONS_TIMEOUT_MS, intervalMs: 200 });
}

/** Waits until nothing is left of what units have pushed: only what is appended leaves the inbox. */
export async function inboxDrained(nats: Nats, timeoutMs: number): Promise<void> {
  const drained = async () => {
    const { state } = await api<{ state: { messages: number } }>(nats, 'STREAM.INFO.UNIT_INBOX');
    return state.messages === 0;
  };
  await eventually(drained, { timeoutMs, intervalMs: INBOX_INTERVAL_MS });
}

export interface Recorded {
  readonly events: number;
  /** When the store took the last of them, milliseconds since 1970. */
  readonly lastAtMs: number;
}

/**
 * Reads `EVENTS` from behind `after` and counts what is recorded of the units.
 * @throws Error when a unit's log is not there as it was pushed: 1 to `eventsPerUnit`, in order, each once, none rejected
 */
export async function recorded(
  nats: Nats,
  after: number,
  units: readonly UnitIdentity[],
  eventsPerUnit: number,
): Promise<Recorded> {
  const store = eventStore(nats);
  const last = await store.lastSequence();
  const seqs = new Map(units.map(({ name }) => [name, 0]));
  const stop = new AbortController();
  let lastAtMs = 0;
  for await (const message of store.read({ after, signal: stop.signal, onAlarm: () => undefined })) {
    const { unit, aggregate, sequence, recordedAtMs } = message;
    const before = aggregate === 'device' ? seqs.get(unit) : undefined;
    if (before !== undefined) {
      for (const [index, { unitseq, type }] of message.events().entries()) {
        if (type === 'UnitEventRejected') throw new Error(`an event of ${unit} was rejected`);
        if (unitseq !== before + index + 1) throw new Error(`${unit}: ${unitseq} came after ${before + index}`);
      }
      seqs.set(unit, before + message.events().length);
      lastAtMs = recordedAtMs;
    }
    if (sequence >= last) break;
  }
  stop.abort();
  for (const [unit, seq] of seqs) {
    if (seq !== eventsPerUnit) throw new Error(`of ${unit}, ${seq} events of ${eventsPerUnit} are recorded`);
  }
  return { events: units.length * eventsPerUnit, lastAtMs };
}

export function eventStore(nats: Nats): NatsEventStore {
  return new NatsEventStore(
    nats,
    () => crypto.randomUUID(),
    () => performance.now(),
  );
}

export interface Generator {
  readonly pid: number;
  /** Starts the clock, and resolves when everything is acknowledged by JetStream. */
  go(): Promise<PushFindings>;
}

/** Starts the process that plays the units. Resolves when it has made what it will push. */
export async function startGenerator(task: PushTask): Promise<Generator> {
  const file = join(await temporaryFolder('bench-push'), 'task.json');
  await Bun.write(file, JSON.stringify(task));
  const child = Bun.spawn([process.execPath, resolve(import.meta.dir, 'push.ts'), file], {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
  });
  atTheEnd(() => endChild(child));
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let output = '';
  const readUntil = async (done: () => boolean) => {
    while (!done()) {
      const { value, done: ended } = await reader.read();
      if (ended) return;
      output += decoder.decode(value, { stream: true });
    }
  };
  await readUntil(() => output.includes('ready'));
  if (!output.includes('ready')) throw new Error('the generator of pushes did not start');
  return {
    pid: child.pid,
    go: async () => {
      child.stdin.write('go\n');
      await child.stdin.end();
      await readUntil(() => false);
      return JSON.parse(output.trim().split('\n').at(-1) ?? '') as PushFindings;
    },
  };
}

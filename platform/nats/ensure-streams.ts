/**
 * Creates the streams of the platform, and brings existing ones to the settings that the code needs. It never lowers what an operator
 * has raised: replicas, limits, and settings that the platform does not name stay.
 */

import type { Nats } from './connection.ts';
import { api, createStream } from './jetstream.ts';
import { STREAMS, type StreamName } from './streams.ts';

/** The settings of a stream as the JetStream API answers them. */
export type StreamSettings = Readonly<Record<string, unknown>>;

/** Limits, of which the greater one holds. The server writes "unlimited" as -1, or as 0 for ages. */
const LIMITS: ReadonlySet<string> = new Set([
  'max_age',
  'max_bytes',
  'max_msgs_per_subject',
  'max_msgs',
  'duplicate_window',
]);

/**
 * Creates missing streams and updates the settings of existing ones.
 * @param replicas the wanted number of copies of a new stream, and the least of an existing one
 * @throws JetStreamError, NatsUnavailableError
 */
export async function ensureStreams(nats: Nats, replicas = 1): Promise<void> {
  for (const name of Object.keys(STREAMS) as StreamName[]) await ensureStream(nats, name, replicas);
}

/** The same for one stream. @throws JetStreamError, NatsUnavailableError */
export async function ensureStream(nats: Nats, name: StreamName, replicas: number): Promise<void> {
  if (await createStream(nats, name, replicas)) return;
  const { config } = await api<{ readonly config: StreamSettings }>(nats, `STREAM.INFO.${name}`);
  const merged = mergedSettings(config, { ...STREAMS[name], num_replicas: replicas });
  if (merged !== config) await api(nats, `STREAM.UPDATE.${name}`, merged);
}

/** The present settings with those that the code needs; the same object when nothing changes. */
export function mergedSettings(present: StreamSettings, needed: StreamSettings): StreamSettings {
  const changes = Object.entries(needed).flatMap(([key, value]): [string, unknown][] => {
    const merged = mergedSetting(key, present[key], value);
    return JSON.stringify(merged) === JSON.stringify(present[key] ?? defaultOf(merged)) ? [] : [[key, merged]];
  });
  return changes.length === 0 ? present : { ...present, ...Object.fromEntries(changes) };
}

function mergedSetting(key: string, present: unknown, needed: unknown): unknown {
  if (typeof present !== 'number' || typeof needed !== 'number') return needed;
  if (key === 'num_replicas') return Math.max(present, needed);
  if (!LIMITS.has(key)) return needed;
  return present <= 0 || present > needed ? present : needed;
}

/** The server leaves flags that are false out of its answer. */
function defaultOf(value: unknown): unknown {
  return value === false ? false : undefined;
}

/**
 * The ceiling of `ingest`: the commits that a run has stored, published again as they are, in plain atomic batches of at
 * most 1 MiB or 100 messages to an equal NATS. Nothing is checked, folded or decided. Of several depths the fastest counts.
 */

import { encodeCommit } from '../../platform/event-store/store.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { type OutgoingMessage, publishAtomically } from '../../platform/nats/jetstream.ts';
import { eventSubject } from '../../platform/nats/subjects.ts';
import { createLog } from '../../platform/observability/log.ts';

interface Server {
  readonly natsUrl: string;
  readonly natsCreds: string;
}

export interface CeilingTask {
  /** Where the run's commits are. */
  readonly from: Server;
  /** The sequence before the first commit, and the least number of events to read, if the stream has as many. */
  readonly after: number;
  readonly events: number;
  /** The equal one. */
  readonly to: Server;
  readonly runMs: number;
}

export interface CeilingFindings {
  readonly eventsPerSecond: number;
  /** Batches in flight when it was fastest. */
  readonly inFlight: number;
  readonly bytesPerEvent: number;
}

const MAX_BATCH_MESSAGES = 100;
const MAX_BATCH_BYTES = 1024 * 1024;
const TIMEOUT_MS = 10_000;
const IN_FLIGHT = [1, 2, 4] as const;

interface Commit {
  readonly subject: string;
  readonly payload: string;
  readonly events: number;
}

const log = createLog(() => undefined, Date.now);

async function readCommits({ from, after, events: wanted }: CeilingTask): Promise<Commit[]> {
  const nats = await Nats.connect({ url: from.natsUrl, creds: from.natsCreds, name: 'ceiling', log });
  const stop = new AbortController();
  const store = new NatsEventStore(
    nats,
    () => crypto.randomUUID(),
    () => performance.now(),
  );
  const last = await store.lastSequence();
  const commits: Commit[] = [];
  let taken = 0;
  for await (const message of store.read({ after, signal: stop.signal, onAlarm: () => undefined })) {
    const { unit, aggregate, commandId, sequence } = message;
    if (aggregate === 'device') {
      const events = message.events();
      const payload = encodeCommit({ unit, aggregate, expectedSequence: 0, commandId, events });
      commits.push({ subject: eventSubject(unit, aggregate), payload, events: events.length });
      taken += events.length;
    }
    if (taken >= wanted || sequence >= last) break;
  }
  stop.abort();
  await nats.close();
  return commits;
}

/** Batches within the bounds, a subject in each once. */
function batchesOf(commits: readonly Commit[]): Commit[][] {
  const batches: Commit[][] = [];
  let batch: Commit[] = [];
  let bytes = 0;
  for (const commit of commits) {
    const full = batch.length >= MAX_BATCH_MESSAGES || bytes + commit.payload.length > MAX_BATCH_BYTES;
    if (full || batch.some(({ subject }) => subject === commit.subject)) {
      batches.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(commit);
    bytes += commit.payload.length;
  }
  return batch.length === 0 ? batches : [...batches, batch];
}

async function publish(nats: Nats, batches: readonly Commit[][], inFlight: number, runMs: number): Promise<number> {
  let next = 0;
  let events = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (performance.now() < start + runMs) {
        const batch = batches[next % batches.length] ?? [];
        next += 1;
        const batchId = crypto.randomUUID();
        const messages = batch.map(({ subject, payload }, index): OutgoingMessage => {
          const type = { 'Content-Type': 'application/cloudevents-batch+json' };
          return { subject, payload, headers: { ...type, 'Nats-Msg-Id': `${batchId}-${index}` } };
        });
        await publishAtomically(nats, messages, batchId, TIMEOUT_MS);
        events += batch.reduce((sum, commit) => sum + commit.events, 0);
      }
    }),
  );
  return (events * 1_000) / (performance.now() - start);
}

async function measure(task: CeilingTask): Promise<CeilingFindings> {
  const commits = await readCommits(task);
  const batches = batchesOf(commits);
  const bytes = commits.reduce((sum, { payload }) => sum + payload.length, 0);
  const bytesPerEvent = bytes / commits.reduce((sum, { events }) => sum + events, 0);
  const nats = await Nats.connect({ url: task.to.natsUrl, creds: task.to.natsCreds, name: 'ceiling', log });
  await publish(nats, batches, 1, task.runMs / 2);
  let best = { eventsPerSecond: 0, inFlight: 0 };
  for (const inFlight of IN_FLIGHT) {
    const eventsPerSecond = await publish(nats, batches, inFlight, task.runMs);
    if (eventsPerSecond > best.eventsPerSecond) best = { eventsPerSecond, inFlight };
  }
  await nats.close();
  return { ...best, bytesPerEvent };
}

console.log(JSON.stringify(await measure((await Bun.stdin.json()) as CeilingTask)));

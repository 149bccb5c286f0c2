import { encodeCommit } from '../../platform/event-store/store.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { publishAtomically } from '../../platform/nats/jetstream.ts';
import { eventSubject } from '../../platform/nats/subjects.ts';
import type { FleetHistory } from './fleet-history.ts';

/** Commits in one atomic batch. */
export const BATCH_COMMITS = 500;
const PUBLISH_TIMEOUT_MS = 30_000;

/** Stores the next commits of a history, so many that they have `events` events at least. @returns how many they have */
export async function publishHistory(nats: Nats, history: FleetHistory, events: number): Promise<number> {
  let published = 0;
  while (published < events) {
    const commits = history.nextCommits(BATCH_COMMITS);
    const messages = commits.map((commit) => ({
      subject: eventSubject(commit.unit, commit.aggregate),
      payload: encodeCommit(commit),
      headers: { 'Nats-Msg-Id': commit.commandId },
    }));
    await publishAtomically(nats, messages, Bun.randomUUIDv7(), PUBLISH_TIMEOUT_MS);
    for (const commit of commits) published += commit.events.length;
  }
  return published;
}

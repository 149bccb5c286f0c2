import { MalformedCommitError, type StoredMessage } from '../../../platform/event-store/store.ts';
import type { Commit } from '../projection.ts';

/** Parses a message; one that is no commit gives nothing, and is told. */
export function parseCommit(
  message: StoredMessage,
  onMalformed: (message: StoredMessage, reason: string) => void,
): Commit | undefined {
  try {
    const { sequence, unit, aggregate, lane, recordedAtMs } = message;
    return { sequence, unit, aggregate, lane, recordedAtMs, events: message.events() };
  } catch (error) {
    if (!(error instanceof MalformedCommitError)) throw error;
    onMalformed(message, error.message);
    return undefined;
  }
}

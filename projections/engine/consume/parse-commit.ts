import { MalformedCommitError, type StoredMessage } from '../../../platform/event-store/store.ts';
import type { Commit } from '../projection.ts';

/**
 * Parses a stored message. A message that is no commit is skipped, because it would stop the lane for ever.
 *
 * @param onMalformed called with the reason when the message is no commit
 * @returns undefined when the message is no commit
 */
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

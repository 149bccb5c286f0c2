import { type KnownEvent, upcast } from '../../domain/events/catalogue.ts';
import type { Log } from '../observability/log.ts';
import { decodeCommit, MalformedCommitError } from './store.ts';

/** The events of a stored message whose types this code knows. A message that is no commit has none, and is logged as an error. */
export function knownEvents({ data, sequence }: { data: Uint8Array; sequence: number }, log: Log): KnownEvent[] {
  try {
    return decodeCommit(new TextDecoder().decode(data)).flatMap((event) => upcast(event) ?? []);
  } catch (error) {
    if (!(error instanceof MalformedCommitError)) throw error;
    log.error('A message in the stream EVENTS is not a commit and is skipped.', { sequence, error });
    return [];
  }
}

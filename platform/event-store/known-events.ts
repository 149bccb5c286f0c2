import { type KnownEvent, upcast } from '../../domain/events/catalogue.ts';
import type { Log } from '../observability/log.ts';
import { decodeCommit, MalformedCommitError } from './store.ts';

/** The events of a stored message that this code knows; of a message that is no commit there are none, and an alarm says so. */
export function knownEvents({ data, sequence }: { data: Uint8Array; sequence: number }, log: Log): KnownEvent[] {
  try {
    return decodeCommit(new TextDecoder().decode(data)).flatMap((event) => upcast(event) ?? []);
  } catch (error) {
    if (!(error instanceof MalformedCommitError)) throw error;
    log.error('a message in EVENTS is no commit', { sequence, error });
    return [];
  }
}

/**
 * The event store: append-only, ordered, one commit a message. `platform/nats/event-store.ts` keeps it in JetStream,
 * `memory.ts` in memory; one contract suite runs against both.
 */

import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';

/** Most events in one commit: a whole batch of a unit is one. */
export const MAX_COMMIT_EVENTS = 500;
/** Most bytes of one commit as JSON; below the server's `max_payload` of 1 MiB. */
export const MAX_COMMIT_BYTES = 768 * 1024;

/**
 * Which appends the store commits first. `interactive`: a person or a unit waits for the outcome. `background`: a worker
 * records facts, thousands of events a second, and waits for none of them in particular.
 */
export type AppendPriority = 'interactive' | 'background';

/** The events of one decision, or of one unit batch: stored whole or not at all. */
export interface Append {
  readonly unit: string;
  readonly aggregate: Aggregate;
  /** Sequence of the last commit on this subject that the decision has seen, 0 for none. */
  readonly expectedSequence: number;
  /** The same command is appended once, however often it is tried. */
  readonly commandId: string;
  /** 1 to `MAX_COMMIT_EVENTS`, at most `MAX_COMMIT_BYTES` as JSON. */
  readonly events: readonly CloudEvent[];
  /** @default 'interactive' */
  readonly priority?: AppendPriority;
}

export interface Appended {
  /** Stream sequence of the commit. The position of its events is `sequence.index`. */
  readonly sequence: number;
  /** This command had been appended before; its commit is the one named, and nothing was written now. */
  readonly duplicate: boolean;
}

/** A message of the store, dealt to its lane by its subject and parsed only when asked. */
export interface StoredMessage {
  readonly sequence: number;
  readonly unit: string;
  readonly aggregate: Aggregate;
  /** 0 to 255: the two-letter shard of the unit. */
  readonly lane: number;
  /** When the store took it, milliseconds since 1970. */
  readonly recordedAtMs: number;
  readonly commandId: string;
  /** Of the commit, as it is stored. */
  readonly bytes: number;
  /** The events, in order. Throws `MalformedCommitError` when the message is no commit. */
  events(): readonly CloudEvent[];
}

export interface EventStore {
  /**
   * Stores a commit durably, or not at all.
   *
   * @throws ConcurrencyError another commit came first: load again and decide again.
   * @throws StoreUnavailableError the store cannot be reached, or did not answer in time; nothing is known to be stored.
   * @throws RangeError the commit exceeds a bound.
   */
  append(append: Append): Promise<Appended>;

  /**
   * The commits of one unit, all its subjects, whose sequence is greater than `after`, in order. Costs what lies between
   * `after` and the end: start from a snapshot.
   *
   * @throws StoreUnavailableError
   */
  tail(unit: string, after: number): Promise<readonly StoredMessage[]>;

  /** Sequence of the newest message, 0 when the store is empty. */
  lastSequence(): Promise<number>;

  /**
   * Every message after `after`, in order, without end: what comes later follows. Messages that are no commits by their
   * subject are passed to `onAlarm` and skipped.
   *
   * @throws GapError a message that must be there is missing: data loss.
   */
  read(options: ReadOptions): AsyncIterable<StoredMessage>;

  /** As `read`, but only that there is a commit, and of what: its events stay where they are. @throws GapError */
  watch(options: ReadOptions): AsyncIterable<Notice>;
}

/** That there is a commit. */
export type Notice = Pick<StoredMessage, 'sequence' | 'unit' | 'aggregate'>;

export interface ReadOptions {
  readonly after: number;
  readonly signal: AbortSignal;
  /** Called for a message that is no commit; the reader goes on. */
  readonly onAlarm: (alarm: { readonly sequence: number; readonly reason: string }) => void;
}

/** Another commit came first. Retryable after loading again. */
export class ConcurrencyError extends Error {
  override readonly name = 'ConcurrencyError';
}

/** The store cannot be reached or did not answer. Retryable later, with the same command id. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

/** A sequence is missing. Terminal: what was stored is no longer whole. */
export class GapError extends Error {
  override readonly name = 'GapError';
}

/** A message on an event subject is no commit. Terminal for the message: it is skipped with an alarm. */
export class MalformedCommitError extends Error {
  override readonly name = 'MalformedCommitError';
}

/** Checks the bounds of a commit and gives its JSON. */
export function encodeCommit(append: Append): string {
  if (append.events.length === 0 || append.events.length > MAX_COMMIT_EVENTS) {
    throw new RangeError(`a commit has 1 to ${MAX_COMMIT_EVENTS} events, not ${append.events.length}`);
  }
  const json = JSON.stringify(append.events);
  const bytes = Buffer.byteLength(json);
  if (bytes > MAX_COMMIT_BYTES) throw new RangeError(`a commit has at most ${MAX_COMMIT_BYTES} bytes, not ${bytes}`);
  return json;
}

/** Reads a commit's JSON. Throws `MalformedCommitError`. */
export function decodeCommit(json: string): CloudEvent[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new MalformedCommitError('the message is not JSON');
  }
  if (!Array.isArray(parsed) || parsed.length === 0 || !parsed.every(isCloudEvent)) {
    throw new MalformedCommitError('the message is not a batch of CloudEvents');
  }
  return parsed;
}

function isCloudEvent(value: unknown): value is CloudEvent {
  if (typeof value !== 'object' || value === null) return false;
  const event = value as Record<string, unknown>;
  return (
    event.specversion === '1.0' &&
    isText(event.id) &&
    isText(event.source) &&
    isText(event.type) &&
    isText(event.subject) &&
    isText(event.time) &&
    isText(event.dataschema) &&
    typeof event.data === 'object' &&
    event.data !== null
  );
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value.length > 0;
}

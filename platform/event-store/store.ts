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
  /** Makes the append idempotent: a command is appended once, however often the append is repeated. */
  readonly commandId: string;
  /** 1 to `MAX_COMMIT_EVENTS`, at most `MAX_COMMIT_BYTES` as JSON. */
  readonly events: readonly CloudEvent[];
  /** @default 'interactive' */
  readonly priority?: AppendPriority;
}

export interface Appended {
  /** Stream sequence of the commit. The position of its events is `sequence.index`. */
  readonly sequence: number;
  /** Whether the command had been appended before: `sequence` is that of the earlier commit, and nothing was written now. */
  readonly duplicate: boolean;
}

/** A message of the store. Its lane follows from its subject; its events are parsed on demand. */
export interface StoredMessage {
  readonly sequence: number;
  readonly unit: string;
  readonly aggregate: Aggregate;
  /** 0 to 255: the two-letter shard of the unit. */
  readonly lane: number;
  /** When the store stored it, milliseconds since 1970. */
  readonly recordedAtMs: number;
  readonly commandId: string;
  /** Size of the commit as stored. */
  readonly bytes: number;
  /** The events, in order. @throws MalformedCommitError when the message is no commit */
  events(): readonly CloudEvent[];
}

export interface EventStore {
  /**
   * Stores a commit durably, or not at all.
   *
   * @throws ConcurrencyError another commit was appended first: load the state and decide again.
   * @throws StoreUnavailableError the store cannot be reached, or did not answer in time; the commit may be stored.
   * @throws RangeError the commit exceeds a bound.
   */
  append(append: Append): Promise<Appended>;

  /**
   * Tail read: the commits of one unit, on all its subjects, whose sequence is greater than `after`, in order. Its cost grows
   * with the distance from `after` to the end of the store, so that callers start from a snapshot.
   *
   * @throws StoreUnavailableError
   */
  tail(unit: string, after: number): Promise<readonly StoredMessage[]>;

  /**
   * The oldest commits of `tail` within bounds, for callers whose tail may be of any length. An empty page is the end of the tail, as far
   * as the replica that answers has it.
   *
   * @throws StoreUnavailableError
   */
  tailPage(unit: string, after: number, bounds: PageBounds): Promise<readonly StoredMessage[]>;

  /**
   * As `tail`, with every commit that was acknowledged before. `tail` may be answered by a replica that lags; this read costs a
   * request for each commit, and suits callers that know of a commit which `tail` did not have.
   *
   * @param limit most commits that are read. @default all
   */
  tailFromLeader(unit: string, after: number, limit?: number): Promise<readonly StoredMessage[]>;

  /** Sequence of the newest commit of a unit that was acknowledged, 0 when it has none. @throws StoreUnavailableError */
  lastSequenceOf(unit: string): Promise<number>;

  /** Sequence of the newest message, 0 when the store is empty. */
  lastSequence(): Promise<number>;

  /**
   * Every message after `after`, in order, and later messages as they are stored, without end. A message whose subject is not
   * that of a commit is reported to `onAlarm` and skipped.
   *
   * @throws GapError a message that must be there is missing: data loss.
   */
  read(options: ReadOptions): AsyncIterable<StoredMessage>;

  /** As `read`, without the events: yields the sequence, unit and aggregate of each commit. @throws GapError */
  watch(options: ReadOptions): AsyncIterable<Notice>;
}

/** Says that a commit exists. */
export type Notice = Pick<StoredMessage, 'sequence' | 'unit' | 'aggregate'>;

/** Bounds of one page of a tail. */
export interface PageBounds {
  readonly messages: number;
  /** Bytes as stored. A page has at least one commit, if there is one. */
  readonly bytes: number;
  /** How long the store may take to find the commits: the time grows with the distance between them. */
  readonly timeoutMs: number;
}

export interface ReadOptions {
  readonly after: number;
  readonly signal: AbortSignal;
  /** Called for a message that is no commit. The reader skips the message. */
  readonly onAlarm: (alarm: { readonly sequence: number; readonly reason: string }) => void;
}

/** Optimistic concurrency: another commit was appended first. Retryable after loading the state again. */
export class ConcurrencyError extends Error {
  override readonly name = 'ConcurrencyError';
}

/** The store cannot be reached or did not answer. Retryable later, with the same command id. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

/** A sequence is missing. Terminal: the store has lost data. */
export class GapError extends Error {
  override readonly name = 'GapError';
}

/** A message on an event subject is no commit. Terminal for the message: it is skipped with an alarm. */
export class MalformedCommitError extends Error {
  override readonly name = 'MalformedCommitError';
}

/** The JSON of a commit. @throws RangeError when the commit exceeds a bound */
export function encodeCommit(append: Append): string {
  if (append.events.length === 0 || append.events.length > MAX_COMMIT_EVENTS) {
    throw new RangeError(`a commit has 1 to ${MAX_COMMIT_EVENTS} events, not ${append.events.length}`);
  }
  const json = JSON.stringify(append.events);
  const bytes = Buffer.byteLength(json);
  if (bytes > MAX_COMMIT_BYTES) throw new RangeError(`a commit has at most ${MAX_COMMIT_BYTES} bytes, not ${bytes}`);
  return json;
}

/** Parses the JSON of a commit. @throws MalformedCommitError */
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

/**
 * JetStream requests for which the `nats` package has no API: atomic batches, direct batch reads, and stream settings that are
 * newer than the package. They are headers and JSON on documented subjects (ADR-31 and ADR-50 of NATS).
 */

import { createInbox, type Msg } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import type { Headers, Nats } from './connection.ts';
import { NatsUnavailableError } from './connection.ts';
import { STREAMS, type StreamName } from './streams.ts';

const API_TIMEOUT_MS = 5_000;
/** A direct read takes milliseconds: a read that takes longer than this means that the server hangs. */
const DIRECT_READ_TIMEOUT_MS = 2_000;
const STREAM_EXISTS = 10058;
const NO_MESSAGE_FOUND = 10037;

/** Most messages of one atomic batch that the server accepts. */
export const MAX_ATOMIC_MESSAGES = 1_000;

/** The server refused a request. `code` is the error code of the server. Terminal unless the caller knows the code. */
export class JetStreamError extends Error {
  override readonly name = 'JetStreamError';
  readonly code: number;

  constructor(code: number, message: string) {
    super(`${message} (${code})`);
    this.code = code;
  }
}

export interface PubAck {
  readonly seq: number;
  readonly duplicate: boolean;
}

export interface OutgoingMessage {
  readonly subject: string;
  readonly payload: string;
  readonly headers: Headers;
}

interface ApiAnswer {
  readonly error?: { readonly err_code?: number; readonly description?: string };
  readonly seq?: number;
  readonly duplicate?: boolean;
}

/**
 * Creates a stream unless it exists.
 * @returns false when it exists with other settings, which it keeps. @throws JetStreamError, NatsUnavailableError
 */
export async function createStream(nats: Nats, name: StreamName, replicas: number): Promise<boolean> {
  try {
    await api(nats, `STREAM.CREATE.${name}`, streamConfig(name, replicas));
    return true;
  } catch (error) {
    if (error instanceof JetStreamError && error.code === STREAM_EXISTS) return false;
    throw error;
  }
}

/** The settings of a new stream. */
function streamConfig(name: StreamName, replicas: number) {
  return { name, num_replicas: replicas, ...STREAMS[name] };
}

/** Sends a request to the JetStream API. @throws JetStreamError, NatsUnavailableError */
export async function api<T = unknown>(nats: Nats, subject: string, body?: unknown): Promise<T> {
  const payload = body === undefined ? '' : JSON.stringify(body);
  const answer = await nats.request(`$JS.API.${subject}`, payload, { timeoutMs: API_TIMEOUT_MS });
  return checked(JSON.parse(new TextDecoder().decode(answer.data)) as ApiAnswer) as T;
}

/** Publishes one message and waits until it is stored. @throws JetStreamError, NatsUnavailableError */
export async function publishStored(nats: Nats, message: OutgoingMessage, timeoutMs: number): Promise<PubAck> {
  const { subject, payload, headers } = message;
  return pubAck((await nats.request(subject, payload, { timeoutMs, headers })).data);
}

/**
 * Publishes messages as one atomic batch: all of them are stored, or none. A subject may occur once in it.
 * @returns the sequence of the first message; the others follow it without gaps
 * @throws JetStreamError, NatsUnavailableError
 */
export async function publishAtomically(
  nats: Nats,
  messages: readonly OutgoingMessage[],
  batchId: string,
  timeoutMs: number,
): Promise<number> {
  const last = messages.length - 1;
  const batchHeaders = (headers: Headers, index: number) => ({
    ...headers,
    'Nats-Batch-Id': batchId,
    'Nats-Batch-Sequence': String(index + 1),
  });
  for (const [index, { subject, payload, headers }] of messages.slice(0, last).entries()) {
    nats.publish(subject, payload, batchHeaders(headers, index));
  }
  const commit = messages[last];
  if (commit === undefined) throw new RangeError('an atomic batch has at least one message');
  const headers = { ...batchHeaders(commit.headers, last), 'Nats-Batch-Commit': '1' };
  const answer = await nats.request(commit.subject, commit.payload, { timeoutMs, headers });
  return pubAck(answer.data).seq - last;
}

export interface DirectMessage {
  readonly sequence: number;
  readonly subject: string;
  readonly timestampMs: number;
  readonly data: Uint8Array;
  header(name: string): string | undefined;
}

interface DirectPage {
  readonly messages: readonly DirectMessage[];
  readonly more: boolean;
}

interface DirectQuery {
  readonly sequence: number;
  readonly filter: string;
  readonly limit: number;
  /** Most bytes of the messages. A message that exceeds them is read alone. @default no bound */
  readonly bytes?: number;
  /** @default DIRECT_READ_TIMEOUT_MS */
  readonly timeoutMs?: number;
}

/**
 * Reads messages whose subject matches `filter` straight from the stream, from `sequence` on, at most `limit`.
 * `more`: whether further messages match. @throws NatsUnavailableError
 */
export async function readDirectly(
  nats: Nats,
  stream: StreamName,
  { sequence, filter, limit, bytes, timeoutMs = DIRECT_READ_TIMEOUT_MS }: DirectQuery,
): Promise<DirectPage> {
  if (!nats.connected) throw new NatsUnavailableError('the connection to NATS is down');
  const { client } = nats;
  const inbox = createInbox();
  const { promise, resolve, reject } = Promise.withResolvers<DirectPage>();
  const fail = (reason: string) => reject(new NatsUnavailableError(`direct read of ${stream}: ${reason}`));
  const messages: DirectMessage[] = [];
  let pending = 0;
  const subscription = client.subscribe(inbox, {
    callback: (error, message) => {
      if (error !== null) return fail(errorMessage(error));
      if (!message.headers?.has('Nats-Sequence')) {
        // Status 204 ends a batch, and 404 means that no message matches. Any other status is an error.
        const code = message.headers?.code ?? 0;
        return code === 204 || code === 404 ? resolve({ messages, more: pending > 0 }) : fail(`status ${code}`);
      }
      pending = Number(message.headers.get('Nats-Num-Pending'));
      messages.push(toDirectMessage(message));
    },
  });
  // `requestMany` of the package would start its time-out only at the first answer.
  const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
  try {
    const body = JSON.stringify({ seq: sequence, next_by_subj: filter, batch: limit, max_bytes: bytes });
    client.publish(`$JS.API.DIRECT.GET.${stream}`, body, { reply: inbox });
    return await promise;
  } catch (error) {
    if (error instanceof NatsUnavailableError) throw error;
    throw new NatsUnavailableError(`direct read of ${stream}: ${errorMessage(error)}`, { cause: error });
  } finally {
    clearTimeout(timer);
    subscription.unsubscribe();
  }
}

interface StoredAnswer extends ApiAnswer {
  readonly message?: {
    readonly subject: string;
    readonly seq: number;
    readonly data?: string;
    readonly hdrs?: string;
    readonly time: string;
  };
}

/**
 * Reads one message from the leader of a stream, which has every message that was acknowledged. A direct read may be answered by a replica
 * that lags.
 * @returns undefined when no message matches @throws JetStreamError, NatsUnavailableError
 */
export async function readFromLeader(
  nats: Nats,
  stream: StreamName,
  query: { readonly last_by_subj: string } | { readonly seq: number; readonly next_by_subj: string },
): Promise<DirectMessage | undefined> {
  const answer = await nats.request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify(query), {
    timeoutMs: API_TIMEOUT_MS,
  });
  const parsed = JSON.parse(new TextDecoder().decode(answer.data)) as StoredAnswer;
  if (parsed.error?.err_code === NO_MESSAGE_FOUND) return undefined;
  checked(parsed);
  if (parsed.message === undefined) throw new NatsUnavailableError('the answer has no message');
  const { subject, seq, data = '', hdrs = '', time } = parsed.message;
  const headers = parseHeaders(Buffer.from(hdrs, 'base64').toString());
  return {
    sequence: seq,
    subject,
    timestampMs: Date.parse(time),
    data: Buffer.from(data, 'base64'),
    header: (name) => headers.get(name) || undefined,
  };
}

/** The headers of a message as the server stores them: a version line, then a line for each. */
function parseHeaders(text: string): Map<string, string> {
  const lines = text.split('\r\n').slice(1);
  return new Map(
    lines.flatMap((line): [string, string][] => {
      const colon = line.indexOf(':');
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1).trim()]];
    }),
  );
}

function toDirectMessage({ headers, data }: Msg): DirectMessage {
  return {
    sequence: Number(headers?.get('Nats-Sequence')),
    subject: headers?.get('Nats-Subject') ?? '',
    timestampMs: Date.parse(headers?.get('Nats-Time-Stamp') ?? ''),
    data,
    header: (name) => headers?.get(name) || undefined,
  };
}

function pubAck(data: Uint8Array): PubAck {
  const { seq, duplicate } = checked(JSON.parse(new TextDecoder().decode(data)) as ApiAnswer);
  if (seq === undefined) throw new NatsUnavailableError('the answer is no publish acknowledgement');
  return { seq, duplicate: duplicate === true };
}

function checked(answer: ApiAnswer): ApiAnswer {
  if (answer.error === undefined) return answer;
  throw new JetStreamError(answer.error.err_code ?? 0, answer.error.description ?? 'refused');
}

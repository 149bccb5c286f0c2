/** Reads the log of a unit from the unit itself, over HTTP or as a NATS request. */

import { Value } from '@sinclair/typebox/value';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { FetchPageHeader, MAX_BATCH_EVENTS } from '../../domain/unit-protocol/batch.ts';
import type { Nats } from '../nats/connection.ts';
import { unitCommandsSubject } from '../nats/subjects.ts';
import { errorMessage } from '../observability/error-message.ts';
import { formatPlace } from '../unit-protocol/ping.ts';
import type { PlatformSigner } from '../unit-protocol/signatures.ts';
import { requestOverHttp } from '../units/request-over-http.ts';
import { UnitUnreachableError } from '../units/unit-command-client.ts';
import { type ParsedBatch, toParsedBatch, UnreadableBatchError } from './batch.ts';

/** Time within which a unit must answer with a page. */
export const FETCH_TIMEOUT_MS = 10_000;
/** A valid page has at most 256 KiB. Above this limit the client stops reading an answer over HTTP. */
const MAX_PAGE_BYTES = 1024 * 1024;
const OK = 200;

/** What a request for a page names. */
interface PageRequest {
  readonly after: LogPosition | undefined;
  readonly recorded: LogPosition | undefined;
  readonly limit: number;
  readonly timeoutMs: number;
}

export interface LogPosition {
  readonly epoch: string;
  readonly seq: number;
}

export interface FetchedPage {
  readonly batch: ParsedBatch;
  readonly head: FetchPageHeader;
}

/** A unit answered with a malformed page of its log. Terminal: a repeated request yields the same page. */
export class UnreadablePageError extends Error {
  override readonly name = 'UnreadablePageError';
  readonly content: Uint8Array;

  constructor(message: string, content: Uint8Array, options: ErrorOptions) {
    super(message, options);
    this.content = content;
  }
}

export interface UnitLogClientOptions {
  readonly nats: Nats;
  readonly signer: PlatformSigner;
  /** The clock of a unit as the platform measured it, milliseconds since 1970. */
  readonly unitNowMs: (unit: string) => number;
}

export class UnitLogClient {
  readonly #options: UnitLogClientOptions;

  constructor(options: UnitLogClientOptions) {
    this.#options = options;
  }

  /**
   * Fetches up to `MAX_BATCH_EVENTS` events after the position `after`, or from the start of the current epoch without it. The unit
   * may delete its events up to `recorded`.
   *
   * @throws UnitUnreachableError when there is no answer or it is not a page of a log; UnreadablePageError
   */
  async fetchPage(
    unit: RegisteredUnit,
    after: LogPosition | undefined,
    recorded: LogPosition | undefined,
  ): Promise<FetchedPage> {
    const request = { after, recorded, limit: MAX_BATCH_EVENTS, timeoutMs: FETCH_TIMEOUT_MS };
    return toFetchedPage(unit.name, await this.#request(unit, request), after);
  }

  /**
   * Requests the position of the last event of a unit's log. Pings report it too, but reach the read models later. The unit may
   * delete its events up to `recorded`.
   *
   * @throws UnitUnreachableError when there is no answer within `timeoutMs` or it is not a page of a log
   */
  async readEnd(unit: RegisteredUnit, recorded: LogPosition | undefined, timeoutMs: number): Promise<LogPosition> {
    const answer = await this.#request(unit, { after: recorded, recorded, limit: 1, timeoutMs });
    const { epoch, lastSeq } = parsePage(unit.name, answer).page;
    return { epoch, seq: lastSeq };
  }

  async #request(unit: RegisteredUnit, request: PageRequest): Promise<Uint8Array> {
    const { signer, unitNowMs } = this.#options;
    const { recorded } = request;
    const place = recorded === undefined ? undefined : formatPlace(recorded);
    const jws = await signer.fetch(unit.name, unitNowMs(unit.name), place);
    try {
      return await (unit.commandChannel === 'nats' ? this.#overNats(unit, jws, request) : overHttp(unit, jws, request));
    } catch (error) {
      throw new UnitUnreachableError(`no log from ${unit.name}: ${errorMessage(error)}`, { cause: error });
    }
  }

  async #overNats(unit: RegisteredUnit, jws: string, { after, limit, timeoutMs }: PageRequest): Promise<Uint8Array> {
    const place = after === undefined ? {} : { after: formatPlace(after) };
    const body = JSON.stringify({ jws, ...place, limit });
    return (await this.#options.nats.request(unitCommandsSubject(unit.name), body, { timeoutMs })).data;
  }
}

async function overHttp(
  unit: RegisteredUnit,
  jws: string,
  { after, limit, timeoutMs }: PageRequest,
): Promise<Uint8Array> {
  const place = after === undefined ? '' : `after=${formatPlace(after)}&`;
  const { status, body } = await requestOverHttp(`http://${unit.address}/events?${place}limit=${limit}`, {
    method: 'GET',
    headers: { authorization: `Bearer ${jws}` },
    timeoutMs,
    maxBytes: MAX_PAGE_BYTES,
  });
  if (status !== OK) throw new Error(`it answered ${status}`);
  return body;
}

/** Parses the answer to a fetch after `after`. @throws UnitUnreachableError when it is not a page; UnreadablePageError */
export function toFetchedPage(unit: string, answer: Uint8Array, after: LogPosition | undefined): FetchedPage {
  const { text, page } = parsePage(unit, answer);
  const { epoch, firstAvailableSeq, lastSeq } = page;
  try {
    const firstSeq = after?.epoch === epoch ? Math.max(after.seq + 1, firstAvailableSeq) : firstAvailableSeq;
    const batch = toParsedBatch(unit, page, text, firstSeq);
    const first = batch.events[0]?.seq ?? firstAvailableSeq;
    const last = batch.events.at(-1)?.seq ?? lastSeq;
    if (first < firstAvailableSeq || last > lastSeq || firstAvailableSeq > lastSeq + 1) {
      throw new UnreadableBatchError('its events are outside the range that its header names');
    }
    return { batch, head: page };
  } catch (error) {
    if (!(error instanceof UnreadableBatchError)) throw error;
    throw new UnreadablePageError(error.message, answer, { cause: error });
  }
}

function parsePage(unit: string, answer: Uint8Array): { readonly text: string; readonly page: FetchPageHeader } {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(answer);
    const page: unknown = JSON.parse(text);
    if (!Value.Check(FetchPageHeader, page)) throw new Error('it is no page of a log');
    return { text, page };
  } catch (error) {
    throw new UnitUnreachableError(`${unit} sent an invalid answer to a fetch: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

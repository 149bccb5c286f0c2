/**
 * Streams answers of any size while they are read.
 *
 * The client sets the pace: the server reads the next piece when the previous one has left, so that it holds one piece in memory,
 * however slow the client is.
 *
 * Invariants: an answer with a proper end of HTTP is complete. An export that fails is cut off without its last chunk, which every
 * client reports as an error. An export ends when its client disconnects, or takes nothing for `EXPORT_IDLE_TIMEOUT_S`.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../../platform/observability/log.ts';
import { Problem, RETRY_AFTER_S } from './problems.ts';

/** The largest number of concurrent exports of one process: interactive requests need the database connections, too. */
export const MAX_EXPORTS = 4;
/** After an error nothing leaves any more, so the pieces before it get this long to leave. */
const FLUSH_MS = 20;
/** A client that takes nothing for this long counts as disconnected. */
const EXPORT_IDLE_TIMEOUT_S = 30;

export interface Export {
  readonly contentType: string;
  readonly fileName: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The answer in pieces. An empty piece only shows that the export is still searching. */
  readonly pieces: AsyncGenerator<string>;
}

/** What Bun's server does for the connection of a request. */
interface Connection {
  timeout(request: Request, seconds: number): void;
}

export class ExportStreams {
  readonly #log: Log;
  #running = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** @throws Problem 503 when `MAX_EXPORTS` are running */
  respond(
    { contentType, fileName, headers = {}, pieces }: Export,
    request: Request,
    connection: Connection | null,
  ): Response {
    if (this.#running >= MAX_EXPORTS) {
      const detail = `This server streams ${MAX_EXPORTS} exports already, which is the most. Send the request again later.`;
      throw new Problem('unavailable', 503, detail, { retryAfterS: RETRY_AFTER_S });
    }
    const body = this.#stream(pieces, request.signal, () => connection?.timeout(request, EXPORT_IDLE_TIMEOUT_S));
    return new Response(body, {
      headers: {
        ...headers,
        'content-type': contentType,
        'content-disposition': `attachment; filename="${fileName}"`,
        'cache-control': 'no-store',
      },
    });
  }

  #stream(
    pieces: AsyncGenerator<string>,
    disconnected: AbortSignal,
    extendTimeout: () => void,
  ): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder();
    let state: 'waiting' | 'running' | 'ended' = 'waiting';
    const end = () => {
      if (state === 'running') this.#running -= 1;
      state = 'ended';
    };
    const cancel = async () => {
      end();
      await pieces.return(undefined);
    };
    disconnected.addEventListener('abort', () => void cancel(), { once: true });
    const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
      if (state === 'waiting') {
        this.#running += 1;
        state = 'running';
      }
      try {
        for (let isSent = false; !isSent && state === 'running'; ) {
          // A filter with few matches makes the server search for a long time, during which it sends nothing.
          extendTimeout();
          const { done, value } = await pieces.next();
          if (done === true) {
            end();
            controller.close();
            return;
          }
          isSent = value !== '';
          if (isSent && state === 'running') controller.enqueue(encoder.encode(value));
        }
      } catch (error) {
        end();
        this.#log.warn('an export failed and was cut off; its client can go on from the last cursor', { error });
        await sleep(FLUSH_MS);
        controller.error(error);
      }
    };
    // The server reads nothing ahead, and nothing for a client that disconnected before the first piece.
    return new ReadableStream({ pull, cancel }, { highWaterMark: 0 });
  }
}

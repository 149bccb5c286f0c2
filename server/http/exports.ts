/**
 * Answers of any size, sent while they are read.
 *
 * How it works. The reader sets the pace: what follows is read when what came before has gone out, so that memory holds one
 * piece whoever reads how slowly.
 *
 * What holds. An answer that ends as HTTP says it should is whole. One that fails is cut off without its last chunk, which
 * every client takes for an error. A reader that leaves, or stands still for too long, ends it.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../../platform/observability/log.ts';
import { Problem, RETRY_AFTER_S } from './problems.ts';

/** Exports of one process at the same time: what people wait for needs connections, too. */
export const MAX_EXPORTS = 4;
/** What was handed over before an export failed gets so long to go out: after the error nothing does. */
const LAST_WORDS_MS = 20;
/** A reader that takes nothing for so long has left. */
const EXPORT_IDLE_TIMEOUT_S = 30;

export interface Export {
  readonly contentType: string;
  readonly fileName: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The answer, piece by piece; an empty one says that there is more to come. */
  readonly pieces: AsyncGenerator<string>;
}

/** What Bun's server can do for the connection of a request. */
interface Connection {
  timeout(request: Request, seconds: number): void;
}

export class Exports {
  readonly #log: Log;
  #underWay = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** @throws Problem 503 when too many are under way */
  answer(
    { contentType, fileName, headers = {}, pieces }: Export,
    request: Request,
    connection: Connection | null,
  ): Response {
    if (this.#underWay >= MAX_EXPORTS) {
      throw new Problem('unavailable', 503, `${MAX_EXPORTS} exports are under way already.`, {
        retryAfterS: RETRY_AFTER_S,
      });
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

  #stream(pieces: AsyncGenerator<string>, gone: AbortSignal, stillHere: () => void): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder();
    let state: 'waiting' | 'under way' | 'ended' = 'waiting';
    const end = () => {
      if (state === 'under way') this.#underWay -= 1;
      state = 'ended';
    };
    const leave = async () => {
      end();
      await pieces.return(undefined);
    };
    gone.addEventListener('abort', () => void leave(), { once: true });
    const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
      if (state === 'waiting') {
        this.#underWay += 1;
        state = 'under way';
      }
      try {
        for (let isSent = false; !isSent && state === 'under way'; ) {
          // Looking for what a filter hardly matches takes its time, in which nothing is sent.
          stillHere();
          const { done, value } = await pieces.next();
          if (done === true) {
            end();
            controller.close();
            return;
          }
          isSent = value !== '';
          if (isSent && state === 'under way') controller.enqueue(encoder.encode(value));
        }
      } catch (error) {
        end();
        this.#log.warn('an export broke off', { error });
        await sleep(LAST_WORDS_MS);
        controller.error(error);
      }
    };
    // Nothing is read ahead, and nothing begins for a reader that has left before.
    return new ReadableStream({ pull, cancel: leave }, { highWaterMark: 0 });
  }
}

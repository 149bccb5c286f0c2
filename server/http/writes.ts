/**
 * Writes: with `Idempotency-Key` a repeated request gets the first answer again and changes nothing.
 *
 * The key is kept 24 hours per principal and route. A command's id is derived from it and stands in the commit, so a crash
 * between append and answer changes nothing either: the repeated command decides nothing new, and the answer is made again
 * from the state. Server errors are never kept; whoever repeats after one tries again.
 */

import { createHash } from 'node:crypto';
import type { Principal } from '../../platform/auth/tokens.ts';
import type { IdempotencyStore } from './idempotency-store.ts';
import { Problem, problemOf } from './problems.ts';

const MAX_KEY_LENGTH = 200;
const CLIENT_ERROR = 400;
const SERVER_ERROR = 500;

export interface Answer<T = unknown> {
  readonly status: number;
  readonly body: T;
  /** Stream sequence after which a read shows what was written. */
  readonly position?: number;
  /** What is kept instead of `body`, where a secret is shown only once. */
  readonly keptBody?: unknown;
}

export interface Write {
  readonly principal: Principal;
  /** Method and path as routed, such as `POST /v1/reservations`. */
  readonly route: string;
  readonly key: string | undefined;
  readonly body: unknown;
}

interface Settable {
  status?: number | string;
  headers: Record<string, string | number | readonly string[] | undefined>;
}

export class Writes {
  readonly #store: IdempotencyStore;
  readonly #newId: () => string;

  constructor(store: IdempotencyStore, newId: () => string) {
    this.#store = store;
    this.#newId = newId;
  }

  /** Runs a write under its key and sets status and headers of the answer. `run` gets the id of the command. */
  async run<T>(write: Write, set: Settable, run: (commandId: string) => Promise<Answer<T>>): Promise<unknown> {
    const answer = write.key === undefined ? await run(this.#newId()) : await this.#once(write, write.key, run);
    set.status = answer.status;
    // A refusal that is answered again.
    if (answer.status >= CLIENT_ERROR) set.headers['content-type'] = 'application/problem+json';
    if (answer.position !== undefined) set.headers['lockfleet-position'] = String(answer.position);
    return answer.body;
  }

  async #once<T>(write: Write, key: string, run: (commandId: string) => Promise<Answer<T>>): Promise<Answer> {
    if (key.length === 0 || key.length > MAX_KEY_LENGTH) {
      throw new Problem('validation', 422, `An Idempotency-Key has 1 to ${MAX_KEY_LENGTH} characters.`, {
        errors: [{ path: '/headers/Idempotency-Key', message: `must have 1 to ${MAX_KEY_LENGTH} characters` }],
      });
    }
    const id = { principal: `${write.principal.role}:${write.principal.sub}`, route: write.route, key };
    const claim = await this.#store.claim(id, hashOf(write.body));
    if (claim.outcome === 'done') return claim.answer;
    if (claim.outcome === 'running') {
      throw new Problem('idempotency-key-reused', 409, 'The first request with this key is still running.', {
        retryAfterS: 1,
      });
    }
    if (claim.outcome === 'other-body') {
      throw new Problem('idempotency-key-reused', 422, 'This key came with another body before.');
    }
    try {
      const answer = await run(commandIdOf(id));
      const { keptBody = answer.body, ...rest } = answer;
      await this.#store.finish(id, { ...rest, body: keptBody });
      return answer;
    } catch (error) {
      const problem = problemOf(error);
      if (problem === undefined || problem.document.status >= SERVER_ERROR) await this.#store.release(id);
      else await this.#store.finish(id, { status: problem.document.status, body: problem.document });
      throw error;
    }
  }
}

/** A UUID (version 8) that is the same for the same principal, route and key. */
function commandIdOf({ principal, route, key }: { principal: string; route: string; key: string }): string {
  const hex = createHash('sha256').update([principal, route, key].join('\n')).digest('hex');
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function hashOf(body: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(body) ?? '')
    .digest('hex');
}

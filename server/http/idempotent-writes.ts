/**
 * Writes that a client may repeat: a repeat with its `Idempotency-Key` gets the first answer again and changes nothing.
 *
 * A key is kept for 24 hours per caller and route, with the id of the command, which is stored before the command runs and stands in
 * the commit. So a crash between append and answer changes nothing either: the repeated command decides nothing new, and its answer
 * is made from the state. An answer with a status of 500 or more is never kept, so that a client can repeat the request, and with it
 * the same command. A key that was forgotten makes a new command.
 */

import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { type ElysiaCustomStatusResponse, status } from 'elysia';
import type { Principal } from '../../platform/auth/tokens.ts';
import type { IdempotencyStore, KeyId, Lease } from './idempotency-store.ts';
import { Problem, type ProblemDocument, problemOf, RETRY_AFTER_S } from './problems.ts';
import { MAX_KEY_LENGTH } from './schemas.ts';

const FIRST_PROBLEM_STATUS = 400;
const FIRST_SERVER_ERROR = 500;

/** What a write answers. */
export interface Answer<T = unknown, Status extends number = number> {
  readonly status: Status;
  readonly body: T;
  /** The stream sequence from which on a read shows what was written; the header `Lockfleet-Position`. */
  readonly position?: number;
  /** What is kept under the key instead of `body`, where a secret is shown only once. */
  readonly keptBody?: unknown;
}

/** A write as Elysia answers it: the body with its status. */
export type StatusAnswer<T, Status extends number> = Status extends number
  ? ElysiaCustomStatusResponse<Status, T>
  : never;

/** Runs a write once for each key. `run` gets the id of the command. */
export type WriteOnce = <T, Status extends number>(
  run: (commandId: string) => Promise<Answer<T, Status>>,
) => Promise<StatusAnswer<T, Status>>;

/** A request to write. */
export interface WriteRequest {
  readonly caller: Principal;
  /** Method and path of the request, such as `POST /v1/reservations`. */
  readonly route: string;
  /** The `Idempotency-Key`. */
  readonly key: string | undefined;
  /** What a repeat has to have in common with the first request. */
  readonly content: unknown;
}

export class IdempotentWrites {
  readonly #store: IdempotencyStore;
  readonly #newId: () => string;

  constructor(store: IdempotencyStore, newId: () => string) {
    this.#store = store;
    this.#newId = newId;
  }

  /**
   * Runs a write, or answers what its key got before. Sets the header `Lockfleet-Position` in `headers`.
   * @throws Problem `idempotency-key-reused`, `validation`, the problem that was kept under the key, and the errors of `run`
   */
  async run<T, Status extends number>(
    request: WriteRequest,
    headers: Record<string, string | number | readonly string[] | undefined>,
    run: (commandId: string) => Promise<Answer<T, Status>>,
  ): Promise<StatusAnswer<T, Status>> {
    const { key } = request;
    const answer = key === undefined ? await run(this.#newId()) : await this.#once(request, key, run);
    if (answer.position !== undefined) headers['lockfleet-position'] = String(answer.position);
    return status(answer.status, answer.body) as StatusAnswer<T, Status>;
  }

  async #once<T, Status extends number>(
    { caller, route, key: _, content }: WriteRequest,
    key: string,
    run: (commandId: string) => Promise<Answer<T, Status>>,
  ): Promise<Answer<T, Status>> {
    if (key.length === 0 || key.length > MAX_KEY_LENGTH) throw keyTooLong();
    const id = { principal: `${caller.role}:${caller.sub}`, route, key };
    const claim = await this.#store.claim(id, hashOf(content));
    switch (claim.outcome) {
      case 'done':
        return keptAnswer<T, Status>(claim.answer);
      case 'running':
        throw new Problem(
          'idempotency-key-reused',
          409,
          'The first request with this Idempotency-Key is still running. Send the request again to get its answer.',
          { retryAfterS: RETRY_AFTER_S },
        );
      case 'other-body':
        throw new Problem(
          'idempotency-key-reused',
          422,
          'This Idempotency-Key was used with another body before. Use a new key for a new request.',
        );
      case 'claimed':
        return this.#runClaimed(id, claim.lease, run);
    }
  }

  async #runClaimed<T, Status extends number>(
    id: KeyId,
    lease: Lease,
    run: (commandId: string) => Promise<Answer<T, Status>>,
  ): Promise<Answer<T, Status>> {
    try {
      const answer = await run(lease.commandId);
      const { keptBody = answer.body, ...rest } = answer;
      await this.#store.finish(id, lease, { ...rest, body: keptBody });
      return answer;
    } catch (error) {
      const problem = problemOf(error);
      if (problem === undefined || problem.document.status >= FIRST_SERVER_ERROR) await this.#store.release(id, lease);
      else await this.#store.finish(id, lease, { status: problem.document.status, body: problem.document });
      throw error;
    }
  }
}

/** The answer that was kept under a key. The route that wrote it reads it, so that it has the type of that route. */
function keptAnswer<T, Status extends number>(answer: Answer): Answer<T, Status> {
  if (answer.status >= FIRST_PROBLEM_STATUS) throw Problem.from(answer.body as ProblemDocument);
  return answer as Answer<T, Status>;
}

function keyTooLong(): Problem {
  const message = `must have 1 to ${MAX_KEY_LENGTH} characters`;
  return new Problem('validation', 422, `The Idempotency-Key ${message}.`, {
    errors: [{ path: '/headers/Idempotency-Key', message }],
  });
}

/** The hash of the canonical JSON (RFC 8785), in which the order of members and the notation of numbers make no difference. */
function hashOf(content: unknown): string {
  return createHash('sha256').update(canonicalJson(content)).digest('hex');
}

/** @throws Problem when a text has half a surrogate pair, which has no canonical form */
function canonicalJson(content: unknown): string {
  try {
    return canonicalize(content) ?? '';
  } catch {
    throw new Problem('validation', 422, 'The request has a text that is not well-formed Unicode.');
  }
}

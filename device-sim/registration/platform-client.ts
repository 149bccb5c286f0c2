/** Requests to the API of the platform. Errors are retryable (`PlatformUnavailableError`) or terminal (`RegistrationRefusedError`). */

import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { DEFAULT_TOKEN_ADVICE, type PlatformApi, RegistrationRefusedError } from './platform-api.ts';

const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const CLIENT_ERROR = 400;
const SERVER_ERROR = 500;
/** Client errors that pass by themselves: time-out, too early, too many requests. */
const RETRYABLE_CLIENT_ERRORS: ReadonlySet<number> = new Set([408, 425, 429]);
/** Longest part of an answer that an error text quotes. */
const MAX_QUOTED_LENGTH = 200;
/** Longest line of an answer, in UTF-16 units. A line with credentials has about 2,000. */
const MAX_LINE_LENGTH = 64 * 1024;

/** The platform does not answer, or cannot execute the request now. The error is retryable. */
export class PlatformUnavailableError extends Error {
  override readonly name = 'PlatformUnavailableError';
}

export interface PlatformRequest {
  readonly method: 'GET' | 'POST' | 'PATCH';
  readonly path: string;
  readonly timeoutMs: number;
  readonly body?: string;
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export class PlatformClient {
  readonly #platform: PlatformApi;
  readonly #signal: AbortSignal;

  /** @param signal ends requests that are under way */
  constructor(platform: PlatformApi, signal: AbortSignal) {
    this.#platform = platform;
    this.#signal = signal;
  }

  get url(): string {
    return this.#platform.url;
  }

  /**
   * Sends a request with the token of the simulator. The time-out also covers the reading of the answer.
   * @throws PlatformUnavailableError when the platform does not answer
   * @throws RegistrationRefusedError when the simulator has no token, or the platform refuses it
   */
  async send({ method, path, timeoutMs, body, contentType, headers = {} }: PlatformRequest): Promise<Response> {
    const { url, opsToken } = this.#platform;
    const token = await opsToken();
    const signal = AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#signal]);
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...headers,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(contentType === undefined ? {} : { 'content-type': contentType }),
      },
      ...(body === undefined ? {} : { body }),
      signal,
      keepalive: false,
    }).catch((error: unknown) => {
      throw new PlatformUnavailableError(errorMessage(error), { cause: error });
    });
    if (response.status === UNAUTHORIZED || response.status === FORBIDDEN) throw await this.#refusedToken(response);
    return response;
  }

  async #refusedToken(response: Response): Promise<RegistrationRefusedError> {
    const { url, tokenAdvice = () => DEFAULT_TOKEN_ADVICE } = this.#platform;
    return new RegistrationRefusedError(
      `The platform at ${url} answered ${response.status} to the token with which the simulator registers its units, so none is ` +
        `registered. ${tokenAdvice()} The answer was: ${quoted(await textOf(response))}`,
    );
  }
}

/** The error of an answer other than 2xx to a request that must succeed. */
export async function requestError(response: Response, request: string, url: string): Promise<Error> {
  const { status } = response;
  const answered = `${request} at ${url} answered ${status} ${quoted(await textOf(response))}`;
  const isTerminal = status >= CLIENT_ERROR && status < SERVER_ERROR && !RETRYABLE_CLIENT_ERRORS.has(status);
  if (!isTerminal) return new PlatformUnavailableError(answered);
  return new RegistrationRefusedError(
    `${answered}. A retry gets the same answer: set HTTP_HOST and HTTP_PORT to those of a platform of this version.`,
  );
}

/** @throws PlatformUnavailableError when the connection breaks off, or the time-out ends */
export async function textOf(response: Response): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new PlatformUnavailableError('The connection broke off during an answer.', { cause: error });
  }
}

/** The lines of a body as they arrive. @throws PlatformUnavailableError when the connection breaks off, or the time-out ends */
export async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE_LENGTH) throw new RangeError(`A line has more than ${MAX_LINE_LENGTH} characters.`);
      for (const line of lines) if (line.trim() !== '') yield line;
    }
  } catch (error) {
    throw new PlatformUnavailableError('The connection broke off during the import.', { cause: error });
  }
  if (rest.trim() !== '') yield rest;
}

/** @returns undefined when the text is no JSON, or does not match the schema */
export function parseAs<S extends TSchema>(schema: S, text: string): Static<S> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(schema, value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** An RFC 9457 document, as far as the simulator reads it. */
export const Problem = Type.Object({
  type: Type.Optional(Type.String()),
  status: Type.Optional(Type.Integer()),
  detail: Type.Optional(Type.String()),
  errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
});

export function describeProblem(problem: Static<typeof Problem> | undefined): string {
  const fields = (problem?.errors ?? []).map(({ path, message }) => `${path} ${message}`).join(', ');
  return [problem?.type, problem?.detail, fields].filter((part) => part !== undefined && part !== '').join(' · ');
}

export function quoted(answer: string): string {
  return answer.slice(0, MAX_QUOTED_LENGTH);
}

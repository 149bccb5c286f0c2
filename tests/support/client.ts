/** A REST client for tests: a principal, JSON in and out, and what an answer was. */

import { eventually } from './eventually.ts';

export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly headers: Headers;
}

export interface Request {
  readonly body?: unknown;
  /** Sent as it is, with its own content type. */
  readonly raw?: { readonly body: string | Uint8Array; readonly contentType: string };
  readonly headers?: Readonly<Record<string, string>>;
}

export class Client {
  readonly #api: string;
  readonly #authorization: string | undefined;

  /** `authorization`: the value of the header; none at all when undefined. */
  constructor(api: string, authorization?: string) {
    this.#api = api;
    this.#authorization = authorization;
  }

  get(path: string): Promise<Answer> {
    return this.send('GET', path);
  }

  /**
   * Reads with `minPosition`, and repeats the read while the answer is 503: a read model may need longer than the 2 s that the server
   * waits for it.
   */
  getOnceShown(path: string): Promise<Answer> {
    return eventually(async () => {
      const answer = await this.get(path);
      return answer.status !== 503 && answer;
    });
  }

  post(path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.send('POST', path, { body, headers });
  }

  async send(method: string, path: string, { body, raw, headers = {} }: Request = {}): Promise<Answer> {
    const content =
      raw ?? (body === undefined ? undefined : { body: JSON.stringify(body), contentType: 'application/json' });
    const response = await fetch(`${this.#api}${path}`, {
      method,
      // Tests are watched for connections that they leave open.
      keepalive: false,
      headers: {
        ...(this.#authorization === undefined ? {} : { authorization: this.#authorization }),
        ...(content === undefined ? {} : { 'content-type': content.contentType }),
        ...headers,
      },
      ...(content === undefined ? {} : { body: content.body }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? {} : JSON.parse(text), headers: response.headers };
  }
}

/** A period that begins in `fromMinutes` and lasts `minutes`. */
export function period(fromMinutes: number, minutes: number): { from: string; until: string } {
  const fromMs = Date.now() + fromMinutes * 60_000;
  return { from: new Date(fromMs).toISOString(), until: new Date(fromMs + minutes * 60_000).toISOString() };
}

/** A text field of an answer, that must be there. */
export function text(answer: Answer, field: string): string {
  const value = answer.body[field];
  if (typeof value !== 'string') throw new Error(`${field} is missing in ${JSON.stringify(answer.body)}`);
  return value;
}

/** The items of a list. */
export function items(answer: Answer): Record<string, unknown>[] {
  const { items } = answer.body;
  if (!Array.isArray(items)) throw new Error(`no items in ${JSON.stringify(answer.body)}`);
  return items;
}

/** The fields that a problem names. */
export function fields(answer: Answer): string[] {
  const { errors } = answer.body;
  return Array.isArray(errors) ? errors.map((error: { path: string }) => error.path) : [];
}

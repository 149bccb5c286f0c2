/** Requests to a unit at its address: one connection each, bounded in time and size. */

import { request } from 'node:http';

export interface UnitHttpRequest {
  readonly method: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly timeoutMs: number;
  /** A longer answer is an error. */
  readonly maxBytes: number;
}

export interface UnitHttpAnswer {
  readonly status: number;
  readonly body: Uint8Array;
}

/** Rejects when the unit cannot be reached, does not answer in time, or answers with more than `maxBytes`. */
export function requestOverHttp(url: string, options: UnitHttpRequest): Promise<UnitHttpAnswer> {
  const { method, body, timeoutMs, maxBytes } = options;
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
    const headers = { ...options.headers, ...length };
    // `fetch` opens at most 256 connections in a process, so units that do not answer would block the requests to others.
    const outgoing = request(url, { method, headers, signal, agent: false }, (incoming) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      incoming.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > maxBytes) incoming.destroy(new Error(`the answer has more than ${maxBytes} bytes`));
      });
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks) }));
      incoming.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

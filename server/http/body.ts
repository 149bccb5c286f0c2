/** Reads request bodies: bounded, strictly UTF-8, strictly JSON. Nothing is recorded of a body that is none of these. */

import { Problem } from './problems.ts';

/** The content type of streams of lines, which their routes read themselves. */
export const NDJSON = 'application/x-ndjson';
/** The largest body of most routes. */
export const MAX_BODY_BYTES = 256 * 1024;
/** Of those that take configurations: what is too long in one is told field by field. */
const MAX_CONFIGURATION_BODY_BYTES = 4 * 1024 * 1024;
const TAKES_CONFIGURATION = /^\/v1\/(units\/[^/]+\/config|config-rollouts)\/?$/;
/** The longest line of an import. */
export const MAX_LINE_BYTES = 64 * 1024;

const NEWLINE = 10;

/** The JSON body of a request, `undefined` when it has none. Throws `Problem`. */
export async function readJson(request: Request): Promise<unknown> {
  const takesConfiguration = TAKES_CONFIGURATION.test(new URL(request.url).pathname);
  const bytes = await readBounded(request, takesConfiguration ? MAX_CONFIGURATION_BODY_BYTES : MAX_BODY_BYTES);
  if (bytes.length === 0) return undefined;
  const type = request.headers.get('content-type') ?? '';
  if (!/^application\/(json|[\w.+-]+\+json)\b/i.test(type)) {
    throw new Problem('validation', 415, 'The body must be JSON, with Content-Type: application/json.');
  }
  return parseJson(decodeUtf8(bytes));
}

/** The lines of a body of any length, one at a time, blank ones left out. Throws `Problem` at a line that is too long. */
export async function* readLines(request: Request): AsyncGenerator<string> {
  let rest = new Uint8Array(0);
  for await (const chunk of request.body ?? []) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      const line = decodeUtf8(rest.subarray(0, end)).trim();
      rest = rest.subarray(end + 1);
      if (line !== '') yield line;
    }
    if (rest.length > MAX_LINE_BYTES) {
      throw new Problem('validation', 413, `A line may have at most ${MAX_LINE_BYTES} bytes.`);
    }
  }
  const last = decodeUtf8(rest).trim();
  if (last !== '') yield last;
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem('validation', 400, 'The body is not JSON.');
  }
}

async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = () => new Problem('validation', 413, `The body may have at most ${maxBytes} bytes.`);
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge();
  if (request.headers.has('content-length')) return new Uint8Array(await request.arrayBuffer());
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    if (length > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Problem('validation', 400, 'The body is not valid UTF-8.');
  }
}

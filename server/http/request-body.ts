/** Reads request bodies. A body that is too long, not UTF-8 or not JSON is refused before a route sees it. */

import { Problem } from './problems.ts';
import { requireStorableTexts } from './storable-text.ts';

/** The content type of bodies with a JSON text a line. A route reads such a body itself, line by line. */
export const NDJSON = 'application/x-ndjson';
/** The largest body of a route that takes no configuration. */
export const MAX_BODY_BYTES = 256 * 1024;
/** The largest body with a configuration. It is above what a configuration may have, so that `errors` can name the fields. */
const MAX_CONFIGURATION_BODY_BYTES = 4 * 1024 * 1024;
const CONFIGURATION_PATHS = /^\/v1\/(units\/[^/]+\/config|config-rollouts)\/?$/;
/** The longest line of a body that is read line by line. */
export const MAX_LINE_BYTES = 64 * 1024;

const NEWLINE = 10;

/** The JSON body of a request; `undefined` when it has none. @throws Problem 400, 413, 415 */
export async function readJson(request: Request): Promise<unknown> {
  const takesConfiguration = CONFIGURATION_PATHS.test(new URL(request.url).pathname);
  const bytes = await readBounded(request, takesConfiguration ? MAX_CONFIGURATION_BODY_BYTES : MAX_BODY_BYTES);
  if (bytes.length === 0) return undefined;
  const type = request.headers.get('content-type') ?? '';
  if (!/^application\/(json|[\w.+-]+\+json)\b/i.test(type)) {
    throw new Problem('validation', 415, 'The body must be JSON, sent with the header Content-Type: application/json.');
  }
  const json = parseJson(decodeUtf8(bytes));
  requireStorableTexts(json);
  return json;
}

/** The lines of a body of any length, one at a time, without blank ones. @throws Problem 413 for a long line, 400 for bytes that are not UTF-8 */
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
      throw new Problem(
        'validation',
        413,
        `A line of the body has more than ${MAX_LINE_BYTES} bytes, which is the most.`,
      );
    }
  }
  const last = decodeUtf8(rest).trim();
  if (last !== '') yield last;
}

/** @throws Problem 400 */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem('validation', 400, 'The body is not valid JSON.');
  }
}

async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = () =>
    new Problem(
      'validation',
      413,
      `The body has more than ${maxBytes} bytes, which is the most that this route reads.`,
    );
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

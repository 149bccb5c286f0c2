/**
 * Parses the answer to a ping: HTTP/1.0 or 1.1 with a status and a body that is sized by Content-Length, chunked, or ended by
 * the end of the connection.
 */

/** Most bytes of an answer, including its head; a longer answer is malformed. */
export const MAX_RESPONSE_BYTES = 8 * 1024;

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const END_OF_LINE = '\r\n';

export interface HttpResponse {
  readonly status: number;
  readonly body: Buffer;
  /** Whether the unit keeps the connection for another request. */
  readonly keepAlive: boolean;
}

/**
 * Parses the bytes that have arrived so far. `ended`: the connection has ended.
 * @returns `more` while the answer is incomplete, `malformed` when no further byte can complete it
 */
export function readResponse(bytes: Buffer, ended: boolean): HttpResponse | 'more' | 'malformed' {
  if (bytes.length > MAX_RESPONSE_BYTES) return 'malformed';
  const incomplete = ended ? 'malformed' : 'more';
  const headEnd = bytes.indexOf(END_OF_HEAD);
  if (headEnd < 0) return incomplete;
  const [statusLine = '', ...lines] = bytes.toString('latin1', 0, headEnd).split(END_OF_LINE);
  const [, minor, code] = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(statusLine) ?? [];
  if (code === undefined) return 'malformed';
  const status = Number(code);
  const connection = headerOf(lines, 'connection')?.toLowerCase();
  const keepAlive = minor === '1' ? connection !== 'close' : connection === 'keep-alive';
  const rest = bytes.subarray(headEnd + END_OF_HEAD.length);

  if (headerOf(lines, 'transfer-encoding')?.toLowerCase() === 'chunked') {
    const body = readChunks(rest);
    return typeof body === 'string' ? (body === 'more' ? incomplete : body) : { status, body, keepAlive };
  }
  const length = headerOf(lines, 'content-length');
  if (length === undefined) return ended ? { status, body: rest, keepAlive: false } : 'more';
  if (!/^\d{1,6}$/.test(length)) return 'malformed';
  return rest.length < Number(length) ? incomplete : { status, body: rest.subarray(0, Number(length)), keepAlive };
}

function headerOf(lines: readonly string[], name: string): string | undefined {
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon === name.length && line.slice(0, colon).toLowerCase() === name) return line.slice(colon + 1).trim();
  }
  return undefined;
}

function readChunks(bytes: Buffer): Buffer | 'more' | 'malformed' {
  const chunks: Buffer[] = [];
  for (let offset = 0; ; ) {
    const lineEnd = bytes.indexOf(END_OF_LINE, offset);
    if (lineEnd < 0) return 'more';
    const size = /^([0-9A-Fa-f]{1,5})(?:;|$)/.exec(bytes.toString('latin1', offset, lineEnd))?.[1];
    if (size === undefined) return 'malformed';
    const length = Number.parseInt(size, 16);
    const start = lineEnd + END_OF_LINE.length;
    if (length === 0) return Buffer.concat(chunks);
    if (bytes.length < start + length + END_OF_LINE.length) return 'more';
    chunks.push(bytes.subarray(start, start + length));
    offset = start + length + END_OF_LINE.length;
  }
}

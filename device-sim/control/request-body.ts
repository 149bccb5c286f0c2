/** Reads the bodies of requests to the control API, within a bound. */

import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { ControlProblem, validationProblem } from './problem.ts';

const MAX_BODY_BYTES = 64 * 1024;
const BAD_REQUEST = 400;
const CONTENT_TOO_LARGE = 413;

/** The schema of a body without fields. */
export const EmptyBody = Type.Object({}, { additionalProperties: false });

/**
 * Reads a JSON body. An empty body counts as `{}`.
 * @throws ControlProblem of type `validation`: 413 for a body that is too large, 400 for one that is not JSON in UTF-8, and 422 with
 *   an error for each invalid field
 */
export async function readBody<S extends TSchema>(request: Request, schema: S): Promise<Static<S>> {
  const text = decodeUtf8(await readBounded(request));
  const body = text === '' ? {} : parseJson(text);
  if (Value.Check(schema, body)) return body;
  throw validationProblem([...Value.Errors(schema, body)].map(({ path, message }) => ({ path, message })));
}

async function readBounded(request: Request): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = Number(request.headers.get('content-length') ?? 0);
  if (bytes > MAX_BODY_BYTES) throw tooLarge();
  bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function tooLarge(): ControlProblem {
  const detail = `The body has more than ${MAX_BODY_BYTES} bytes, which is the most that the control API reads.`;
  return new ControlProblem('validation', detail, {}, CONTENT_TOO_LARGE);
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ControlProblem('validation', 'The body is not valid UTF-8.', {}, BAD_REQUEST);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ControlProblem('validation', 'The body is not valid JSON.', {}, BAD_REQUEST);
  }
}

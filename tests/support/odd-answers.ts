/** What an answer to an odd value must be: accepted, or refused with the field; never a failure of the platform. */

import { NDJSON } from '../../server/http/request-body.ts';
import type { ApiOperation } from './openapi-fields.ts';

export interface Problem {
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly { readonly path: string; readonly message: string }[];
}

export type Verdict =
  | { readonly is: 'accepted' }
  | { readonly is: 'refused' }
  /** The platform broke its promise. */
  | { readonly is: 'wrong'; readonly why: string };

/** Statuses by which the state of the platform answers a request whose values are valid. */
const STATES: ReadonlySet<number> = new Set([404, 409, 412]);
const REFUSALS: ReadonlySet<number> = new Set([400, 413, 422]);

/** `field`: the JSON pointer of the value, such as `/tags/0` or `/query/limit`. */
export function verdictOf(
  { bodyType }: Pick<ApiOperation, 'bodyType'>,
  answer: { readonly status: number; readonly text: string },
  field: string,
): Verdict {
  const { status, problem } = bodyType === NDJSON ? answerOfLine(answer) : whole(answer);
  if (status >= 200 && status < 300) return { is: 'accepted' };
  const wrong = (why: string): Verdict => ({ is: 'wrong', why: `${status} ${why}: ${answer.text.slice(0, 300)}` });
  // Bun's server refuses a head that is too long, before the API sees it.
  if (status === 431 && field.startsWith('/query/')) return { is: 'refused' };
  if (problem === undefined) return wrong('without a problem document');
  if (STATES.has(status)) return problem.detail === '' ? wrong('without a reason') : { is: 'refused' };
  if (!REFUSALS.has(status)) return wrong('is no answer to an odd value');
  // A body or line that is too long is not read, so that no field is known.
  if (status === 413) return { is: 'refused' };
  return (problem.errors ?? []).some((error) => names(error, field))
    ? { is: 'refused' }
    : wrong(`does not name ${field}`);
}

/**
 * Whether an error names a field: the field itself, what it is in, or what is in it. An error of the whole body names no field, unless
 * the name of the field cannot be shown.
 */
function names({ path, message }: { readonly path: string; readonly message: string }, field: string): boolean {
  if (path === field || path.startsWith(`${field}/`)) return true;
  // A period that ends before it begins is named by its end.
  if (field.endsWith('/from') && path === field.replace(/from$/, 'until')) return message.includes('from');
  const isInside = field.startsWith(`${path}/`);
  return message.startsWith('has a member whose name') ? isInside : isInside && path !== '' && path !== '/';
}

function whole({ status, text }: { readonly status: number; readonly text: string }) {
  return { status, problem: status < 300 ? undefined : problemIn(text) };
}

/** An import answers each line by a line, which has a problem when the line was refused. */
function answerOfLine({ status, text }: { readonly status: number; readonly text: string }) {
  const line: { readonly problem?: Problem } = status === 200 ? JSON.parse(text) : {};
  return line.problem === undefined ? whole({ status, text }) : { status: line.problem.status, problem: line.problem };
}

function problemIn(text: string): Problem | undefined {
  try {
    const problem = JSON.parse(text) as Partial<Problem>;
    return typeof problem.detail === 'string' && typeof problem.status === 'number' ? (problem as Problem) : undefined;
  } catch {
    return undefined;
  }
}

/** Every text of a JSON value, the names of members included. */
export function textsIn(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value === 'string') found.add(value);
  if (typeof value !== 'object' || value === null) return found;
  for (const [name, member] of Object.entries(value)) {
    found.add(name);
    textsIn(member, found);
  }
  return found;
}

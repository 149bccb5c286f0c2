/** The checks of what units send, compiled once: thousands of events a second pass through them. */

import type { TSchema } from '@sinclair/typebox';
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler';
import { definitionOf, type EventType, isEventType, versionOf } from '../../domain/events/catalogue.ts';
import { fieldErrorsOf } from '../../domain/field-errors.ts';
import { BatchEvent, BatchHeader, MAX_EVENT_BYTES, MAX_EVENT_DEPTH } from '../../domain/unit-protocol/batch.ts';
import { MAX_TEXT_LENGTH } from '../../domain/vocabulary.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be passed on.
const UNPRINTABLE = /[\u0000-\u001f\u007f\ud800-\udfff]/g;

/** What the platform says in the place of an event that it did not accept. */
const PLATFORM_TYPES: ReadonlySet<string> = new Set<EventType>(['UnitEventRejected']);

const checkOfHead = TypeCompiler.Compile(BatchHeader);
const checkOfEvent = TypeCompiler.Compile(BatchEvent);
const checksOfData = new Map<EventType, TypeCheck<TSchema>>();

/** Whether this is the head of a batch, or else why not. */
export function findBatchHeadError(batch: unknown): string | undefined {
  return checkOfHead.Check(batch) ? undefined : describe(checkOfHead, batch);
}

/** Whether a unit may report this event, or else why not. A type or a version that this code does not know may pass. */
export function findEventError(content: unknown): string | undefined {
  const unkeepable = findUnstorableValue(content, MAX_EVENT_DEPTH);
  if (unkeepable !== undefined) return unkeepable;
  if (!checkOfEvent.Check(content)) return describe(checkOfEvent, content);
  const { type, v, data } = content;
  if (!isEventType(type)) return undefined;
  const isForeign = !definitionOf(type).aggregates.includes('device') || PLATFORM_TYPES.has(type);
  if (isForeign) return `${type} is not for units to report`;
  if (v !== versionOf(type)) return undefined;
  const check = checkOfData(type);
  return check.Check(data) ? undefined : describe(check, data, '/data');
}

/**
 * Whether an event in which `findEventError` finds nothing is too large. `cameBytes`: of its JSON, as it came. Written
 * again it can be several times as large, since `1e20` is written with all its digits, and a commit must hold it.
 */
export function findSizeError(content: unknown, cameBytes: number): string | undefined {
  const bytes = Math.max(cameBytes, Buffer.byteLength(JSON.stringify(content)));
  return bytes <= MAX_EVENT_BYTES ? undefined : `it has ${bytes} bytes, more than the ${MAX_EVENT_BYTES} of an event`;
}

/** A text without what people cannot read, and Postgres cannot keep. */
export function replaceUnprintable(text: string): string {
  return text.replaceAll(UNPRINTABLE, '?');
}

/** What is no longer the same when it is written as JSON again, or cannot be written. */
function findUnstorableValue(value: unknown, depthLeft: number): string | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : 'a number in it is too large';
  if (typeof value !== 'object' || value === null) return undefined;
  if (depthLeft === 0) return `it is nested more than ${MAX_EVENT_DEPTH} deep`;
  for (const inner of Object.values(value)) {
    const problem = findUnstorableValue(inner, depthLeft - 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function checkOfData(type: EventType): TypeCheck<TSchema> {
  const known = checksOfData.get(type);
  if (known !== undefined) return known;
  const made = TypeCompiler.Compile<TSchema>(definitionOf(type).schema);
  checksOfData.set(type, made);
  return made;
}

function describe(check: TypeCheck<TSchema>, value: unknown, at = ''): string {
  const first = check.Errors(value).First();
  const [problem] = first === undefined ? [] : fieldErrorsOf([first], at);
  if (problem === undefined) return 'it has another shape';
  // The path has the unit's own field names, which may be anything.
  return `${replaceUnprintable(problem.path)}: ${problem.message}`.slice(0, MAX_TEXT_LENGTH);
}

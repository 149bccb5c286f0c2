/** Validates what units send. The checks are compiled once, because thousands of events pass through them each second. */

import type { TSchema } from '@sinclair/typebox';
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler';
import { definitionOf, type EventType, isEventType, versionOf } from '../../domain/events/catalogue.ts';
import { fieldErrorsOf } from '../../domain/field-errors.ts';
import { BatchEvent, BatchHeader, MAX_EVENT_BYTES, MAX_EVENT_DEPTH } from '../../domain/unit-protocol/batch.ts';
import { MAX_TEXT_LENGTH } from '../../domain/vocabulary.ts';

/** Control characters and UTF-16 surrogates. */
const UNPRINTABLE = /[^\u0020-\u007e\u0080-\ud7ff\ue000-\uffff]/g;

/** Events of the `device` subject that only the platform records. */
const PLATFORM_TYPES: ReadonlySet<string> = new Set<EventType>(['UnitEventRejected']);

const checkOfHead = TypeCompiler.Compile(BatchHeader);
const checkOfEvent = TypeCompiler.Compile(BatchEvent);
const checksOfData = new Map<EventType, TypeCheck<TSchema>>();

/** Returns why a value has no valid batch header, or undefined when it has one. */
export function findBatchHeadError(batch: unknown): string | undefined {
  return checkOfHead.Check(batch) ? undefined : describe(checkOfHead, batch);
}

/** Returns why a unit may not report an event, or undefined when it may. Types and versions unknown to this code are valid. */
export function findEventError(content: unknown): string | undefined {
  const unstorable = findUnstorableValue(content, MAX_EVENT_DEPTH);
  if (unstorable !== undefined) return unstorable;
  if (!checkOfEvent.Check(content)) return describe(checkOfEvent, content);
  const { type, v, data } = content;
  if (!isEventType(type)) return undefined;
  const isForeign = !definitionOf(type).aggregates.includes('device') || PLATFORM_TYPES.has(type);
  if (isForeign) return `${type} is not an event that units may report`;
  if (v !== versionOf(type)) return undefined;
  const check = checkOfData(type);
  return check.Check(data) ? undefined : describe(check, data, '/data');
}

/**
 * Returns why an event is too large, or undefined when it is not. `receivedBytes` is the size of its JSON as the unit sent it. The
 * JSON that the platform stores can be several times as large, because `1e20` is written with all its digits.
 */
export function findSizeError(content: unknown, receivedBytes: number): string | undefined {
  const bytes = Math.max(receivedBytes, Buffer.byteLength(JSON.stringify(content)));
  return bytes <= MAX_EVENT_BYTES ? undefined : `it has ${bytes} bytes, more than the ${MAX_EVENT_BYTES} of an event`;
}

/** Replaces control characters, of which Postgres cannot store NUL, and UTF-16 surrogates by question marks. */
export function replaceUnprintable(text: string): string {
  return text.replaceAll(UNPRINTABLE, '?');
}

/** Returns why a value would change when it is written as JSON again, or could not be written. */
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
  const cached = checksOfData.get(type);
  if (cached !== undefined) return cached;
  const compiled = TypeCompiler.Compile<TSchema>(definitionOf(type).schema);
  checksOfData.set(type, compiled);
  return compiled;
}

function describe(check: TypeCheck<TSchema>, value: unknown, at = ''): string {
  const first = check.Errors(value).First();
  const [problem] = first === undefined ? [] : fieldErrorsOf([first], at);
  if (problem === undefined) return 'it has another shape';
  // The path contains field names that the unit chose, so they may hold any character.
  return `${replaceUnprintable(problem.path)}: ${problem.message}`.slice(0, MAX_TEXT_LENGTH);
}

/**
 * The message of the change feed, on the core NATS subject `changes.units`: which units changed in the read models.
 *
 * A publisher numbers its messages from 1, so that a subscriber notices a lost one. A message with `all` says that any unit
 * may have changed.
 */

import { type Static, Type } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { UnitName } from '../../domain/vocabulary.ts';

export const UNIT_CHANGES_SUBJECT = 'changes.units';
/** Most units that one message names: 64 KiB of the longest names. */
export const MAX_UNITS_PER_MESSAGE = 1_000;

const UnitChangesMessage = Type.Object({
  publisherId: Type.String({ minLength: 1, maxLength: 64 }),
  number: Type.Integer({ minimum: 1, description: 'counts the messages of this publisher from 1' }),
  units: Type.Array(UnitName, { maxItems: MAX_UNITS_PER_MESSAGE }),
  all: Type.Optional(Type.Literal(true, { description: 'any unit may have changed' })),
});
export type UnitChangesMessage = Static<typeof UnitChangesMessage>;

const isUnitChangesMessage = TypeCompiler.Compile(UnitChangesMessage);
const text = new TextDecoder();

export function encodeUnitChanges(message: UnitChangesMessage): string {
  return JSON.stringify(message);
}

/** Reads a message. @returns `undefined` when the bytes are not a valid message */
export function decodeUnitChanges(bytes: Uint8Array): UnitChangesMessage | undefined {
  try {
    const message: unknown = JSON.parse(text.decode(bytes));
    return isUnitChangesMessage.Check(message) ? message : undefined;
  } catch {
    return undefined;
  }
}

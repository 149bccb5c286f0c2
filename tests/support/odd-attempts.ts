/** Bodies that are valid apart from one odd value. */

import { NO_TEXTS, ODD_NUMBERS, oddTexts } from './odd-values.ts';
import { exampleOf, type Field, fieldsIn, jsonWith, jsonWithMember, pointerOf, type Schema } from './openapi-fields.ts';
import type { SeededRandom } from './random.ts';

/** How many values the first field of a kind gets, and how many each further one. `ODD_VALUES=all` gives every field every value. */
const FIRST_SAMPLE = 32;
const FURTHER_SAMPLE = 4;
const IS_EXHAUSTIVE = process.env.ODD_VALUES === 'all';

/** One odd value in one field of a body. */
export interface Attempt {
  /** The JSON pointer of the value. */
  readonly field: string;
  /** The value, for the message of a failed test. */
  readonly value: string;
  /** The JSON of a valid body with the value in it. */
  readonly json: (base: unknown) => string;
  /** The text that the platform has to keep when it accepts the body. */
  readonly text: string | undefined;
}

/** Gives each field a random sample of the values, the first one of a kind a larger one. */
export class OddShares {
  readonly random: SeededRandom;
  readonly #seen = new Set<string>();

  constructor(random: SeededRandom) {
    this.random = random;
  }

  of<T>(kind: string, values: readonly T[]): T[] {
    if (IS_EXHAUSTIVE) return [...values];
    const left = [...values];
    const size = this.#seen.has(kind) ? FURTHER_SAMPLE : FIRST_SAMPLE;
    this.#seen.add(kind);
    return Array.from({ length: size }, () => left.splice(this.random.below(left.length), 1)).flat();
  }
}

/**
 * Odd values for the fields of bodies, by shares of their schemas. A value is sent as the value of each text and number, and as the name of a member of each object.
 */
export class OddAttempts {
  readonly #shares: OddShares;

  constructor(shares: OddShares) {
    this.#shares = shares;
  }

  on(body: Schema): Attempt[] {
    return fieldsIn(body).flatMap((field) => this.#share(field, allAttemptsAt(body, field, this.#shares.random.seed)));
  }

  #share({ kind, schema }: Field, attempts: Attempt[]): Attempt[] {
    const { type, pattern, maxLength, enum: texts, minimum, maximum, patternProperties = {} } = schema;
    const kindOfText = texts === undefined ? pattern : 'one of some texts';
    const key = JSON.stringify([kind, type, kindOfText, maxLength, minimum, maximum, Object.keys(patternProperties)]);
    return this.#shares.of(key, attempts);
  }
}

function allAttemptsAt(body: Schema, field: Field, seed: number): Attempt[] {
  switch (field.kind) {
    case 'number':
      return ODD_NUMBERS.map((json) => attemptAt(body, field, json));
    case 'text':
      return [
        ...NO_TEXTS.map((json) => attemptAt(body, field, json)),
        ...oddTexts(seed).map((text) => attemptAt(body, field, JSON.stringify(text), text)),
      ];
    case 'name':
      return oddTexts(seed).map((text) => attemptOfName(body, field, text));
  }
}

function attemptAt(body: Schema, { path }: Field, value: string, text?: string): Attempt {
  return { field: pointerOf(path), value, json: (base) => jsonWith(base, body, path, value), text };
}

function attemptOfName(body: Schema, { path, schema }: Field, name: string): Attempt {
  const [inner] = Object.values(schema.patternProperties ?? {});
  const value = inner === undefined ? '"x"' : JSON.stringify(exampleOf(inner));
  return {
    field: pointerOf([...path, name]),
    value: JSON.stringify(name),
    json: (base) => jsonWithMember(base, body, path, name, value),
    text: name,
  };
}

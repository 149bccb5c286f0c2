import type { ConfigurationValues } from '../configuration-values.ts';
import type { FieldError } from '../field-errors.ts';
import { canonicalJson } from './configuration-hash.ts';

/** Bound on the canonical JSON of the values: the signed command that carries them must fit a NATS message to a unit. */
export const MAX_CONFIGURATION_BYTES = 64 * 1024;

/**
 * Checks the rules that the schema cannot express, on values that the schema accepts. The unit checks the same rules.
 * Returns one error for each offending field; an empty list means that the values are valid.
 */
export function validateConfiguration(values: ConfigurationValues): FieldError[] {
  const { prices, minimumMinutes, maximumMinutes, openingHours } = values;
  const errors: FieldError[] = [];
  const add = (path: string, message: string) => errors.push({ path, message });
  prices.forEach(({ size }, index) => {
    const first = prices.findIndex((price) => price.size === size);
    if (first < index) add(`/prices/${index}/size`, `repeats size ${size}, which /prices/${first} sets`);
  });
  if (minimumMinutes > maximumMinutes) {
    add('/minimumMinutes', `must not be above maximumMinutes, which is ${maximumMinutes}`);
  }
  openingHours.forEach(({ opens, closes }, index) => {
    if (opens >= closes)
      add(`/openingHours/${index}/closes`, `must be after ${opens}; write 24:00 for the end of the day`);
  });
  const malformed = malformedTexts(values);
  errors.push(...malformed);
  // Malformed texts have no canonical JSON, so the size is known only without them.
  if (malformed.length === 0) {
    const bytes = Buffer.byteLength(canonicalJson(values));
    if (bytes > MAX_CONFIGURATION_BYTES) {
      add('/texts', `makes the configuration ${bytes} bytes long; the maximum is ${MAX_CONFIGURATION_BYTES} bytes`);
    }
  }
  return errors;
}

/** Texts with half of a surrogate pair: canonical JSON (RFC 8785) excludes them, so no hash could prove them. */
function malformedTexts({ texts }: ConfigurationValues): FieldError[] {
  return Object.entries(texts).flatMap(([language, named]) =>
    Object.entries(named)
      .filter(([, text]) => !text.isWellFormed())
      .map(([name]) => ({ path: `/texts/${language}/${name}`, message: 'is not well-formed Unicode' })),
  );
}

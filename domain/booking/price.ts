/** What a rental costs. */

import type { ConfigurationValues } from '../configuration-values.ts';
import type { LockerSize, Money } from '../vocabulary.ts';

const MINUTES_PER_HOUR = 60;
const MS_PER_MINUTE = 60_000;

/**
 * The price of a period by the minute, started minutes and fractions of a minor unit rounded up.
 * `undefined` when the configuration has no price for the size: such a locker is not for rent.
 */
export function priceOf(
  values: ConfigurationValues,
  size: LockerSize,
  fromMs: number,
  untilMs: number,
): Money | undefined {
  const price = values.prices.find((candidate) => candidate.size === size);
  if (price === undefined) return undefined;
  const minutes = Math.ceil((untilMs - fromMs) / MS_PER_MINUTE);
  return { amount: Math.ceil((price.perHour * minutes) / MINUTES_PER_HOUR), currency: price.currency };
}

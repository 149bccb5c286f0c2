/** What a change of a configuration changes, in the words of whoever reads it. */

import type { ConfigurationValues } from '../configuration-values.ts';

export interface ConfigurationDifference {
  /** JSON pointer into the values; prices stand under their size, opening hours as a whole. */
  readonly path: string;
  /** Left out when it was not there before. */
  readonly before?: unknown;
  /** Left out when it is not there any more. */
  readonly after?: unknown;
}

/** In the order of their paths; empty when both say the same. */
export function configurationDiff(before: ConfigurationValues, after: ConfigurationValues): ConfigurationDifference[] {
  const [from, to] = [leavesOf(before), leavesOf(after)];
  const paths = [...new Set([...from.keys(), ...to.keys()])].sort();
  return paths.flatMap((path) => {
    const [old, next] = [from.get(path), to.get(path)];
    if (JSON.stringify(old) === JSON.stringify(next)) return [];
    return [{ path, ...(old === undefined ? {} : { before: old }), ...(next === undefined ? {} : { after: next }) }];
  });
}

function leavesOf({ prices, openingHours, texts, ...rest }: ConfigurationValues): Map<string, unknown> {
  return new Map<string, unknown>([
    ...Object.entries(rest).map(([name, value]): [string, unknown] => [`/${name}`, value]),
    ...prices.map(({ size, perHour, currency }): [string, unknown] => [`/prices/${size}`, { perHour, currency }]),
    ['/openingHours', openingHours],
    ...Object.entries(texts).flatMap(([language, named]) =>
      Object.entries(named).map(([name, text]): [string, unknown] => [`/texts/${language}/${name}`, text]),
    ),
  ]);
}

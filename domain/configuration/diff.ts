/** The differences between two configurations, by the paths that operators read. */

import type { ConfigurationValues } from '../configuration-values.ts';

export interface ConfigurationDifference {
  /** JSON pointer into the values. Prices are listed under their size, opening hours as a whole. */
  readonly path: string;
  /** Absent when the value is new. */
  readonly before?: unknown;
  /** Absent when the value is gone. */
  readonly after?: unknown;
}

/** The differences in the order of their paths; empty when there are none. */
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

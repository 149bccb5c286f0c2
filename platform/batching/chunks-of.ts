/** Slices of a list, in order, each of `maxItems` items at most: for a statement or message whose size has a bound. */
export function* chunksOf<T>(items: readonly T[], maxItems: number): Iterable<readonly T[]> {
  for (let first = 0; first < items.length; first += maxItems) yield items.slice(first, first + maxItems);
}

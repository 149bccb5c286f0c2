/** Parts of a list, in order, of `most` items at most: for what has a bound on how much goes at once. */
export function* partsOf<T>(items: readonly T[], most: number): Iterable<readonly T[]> {
  for (let first = 0; first < items.length; first += most) yield items.slice(first, first + most);
}

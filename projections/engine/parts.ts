/** Parts of a list, in order, of `most` items at most: what one statement sends is in memory several times. */
export function* partsOf<T>(items: readonly T[], most: number): Iterable<readonly T[]> {
  for (let first = 0; first < items.length; first += most) yield items.slice(first, first + most);
}

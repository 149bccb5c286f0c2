/** Refuses requests with texts that the platform cannot store, show, export and send to a unit as they are. */

import { isStorableText } from '../../domain/vocabulary.ts';
import { invalidField } from './problems.ts';

const MESSAGE = 'must be well-formed Unicode without the character U+0000';

/** A value inside of a JSON value, with the way to it. */
interface Place {
  readonly value: unknown;
  readonly key: string;
  readonly parent: Place | undefined;
}

/** Checks every text of a JSON value, the names of members included. @throws Problem 422 that names the first field */
export function requireStorableTexts(json: unknown): void {
  // A body can be nested more deeply than the call stack allows.
  const places: Place[] = [{ value: json, key: '', parent: undefined }];
  for (let place = places.pop(); place !== undefined; place = places.pop()) {
    const { value } = place;
    if (typeof value === 'string' && !isStorableText(value)) throw invalidField(pointerTo(place), MESSAGE);
    if (typeof value !== 'object' || value === null) continue;
    for (const [key, member] of Object.entries(value).reverse()) {
      const inside = { value: member, key, parent: place };
      if (!isStorableText(key)) throw invalidField(pointerTo(place), `has a member whose name ${MESSAGE}`);
      places.push(inside);
    }
  }
}

/** @throws Problem 422 that names the parameter */
export function requireStorableQuery(query: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(query)) {
    const texts: readonly unknown[] = Array.isArray(value) ? value : [value];
    const isStorable = texts.every((text) => typeof text !== 'string' || isStorableText(text));
    if (!isStorable) throw invalidField(`/query/${name}`, MESSAGE);
  }
}

/** The JSON pointer of a place. */
function pointerTo({ key, parent }: Place): string {
  let pointer = '';
  for (let [name, place] = [key, parent]; place !== undefined; [name, place] = [place.key, place.parent]) {
    pointer = `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}${pointer}`;
  }
  return pointer;
}

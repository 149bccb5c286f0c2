/**
 * Cuts the text of a batch into the texts of its events. What was parsed and written again is not what came: numbers lose
 * digits, keys that stand twice are gone, and what is nested deeply cannot be written at all.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPENING: ReadonlySet<number> = new Set([0x5b, 0x7b]);
const CLOSING: ReadonlySet<number> = new Set([0x5d, 0x7d]);

interface Span {
  readonly start: number;
  readonly end: number;
}

/** The JSON of each event, as it came. `text`: the JSON of an object with a list `events`. */
export function sliceEventJson(text: string): string[] {
  let list: number | undefined;
  for (const { start } of partsOf(text, text.indexOf('{'))) {
    const nameStart = text.indexOf('"', start);
    const nameEnd = endOfString(text, nameStart);
    // The last of several counts, as it does for who parses it.
    if (JSON.parse(text.slice(nameStart, nameEnd)) === 'events') list = text.indexOf('[', nameEnd);
  }
  return list === undefined ? [] : partsOf(text, list).map(({ start, end }) => text.slice(start, end).trim());
}

/** What stands between the commas of the object or list that opens at `open`. */
function partsOf(text: string, open: number): Span[] {
  const parts: Span[] = [];
  for (let start = open + 1; ; ) {
    const end = endOfPart(text, start);
    const isLast = text.charCodeAt(end) !== COMMA;
    if (!isLast || parts.length > 0 || text.slice(start, end).trim() !== '') parts.push({ start, end });
    if (isLast) return parts;
    start = end + 1;
  }
}

/** Where the next comma or closing bracket stands that belongs to what is around `start`. */
function endOfPart(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at) - 1;
    } else if (OPENING.has(code)) {
      depth += 1;
    } else if (CLOSING.has(code)) {
      if (depth === 0) return at;
      depth -= 1;
    } else if (code === COMMA && depth === 0) {
      return at;
    }
  }
  return text.length;
}

/** Just behind the string whose first quote stands at `open`. */
function endOfString(text: string, open: number): number {
  for (let at = open + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at += 1;
    else if (code === QUOTE) return at + 1;
  }
  return text.length;
}

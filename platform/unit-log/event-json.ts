/**
 * Cuts the JSON text of a batch into the texts of its events. A dead letter keeps the text that the unit sent, because parsing
 * and serialising it again would change it: numbers lose digits, repeated keys disappear, and deep nesting cannot be written.
 *
 * The functions assume valid JSON (`JSON.parse` has accepted it) and do not recurse, so nesting has no limit here.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPENING_BRACKETS: ReadonlySet<number> = new Set([0x5b, 0x7b]);
const CLOSING_BRACKETS: ReadonlySet<number> = new Set([0x5d, 0x7d]);

/** Offsets into the text: `end` is behind the last character. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * Returns the JSON of each event as the unit wrote it.
 * @param text valid JSON of an object with a list `events`. Of several such lists the last counts, as in `JSON.parse`.
 */
export function sliceEventJson(text: string): string[] {
  let listStart: number | undefined;
  for (const { start } of findMembers(text, text.indexOf('{'))) {
    const nameStart = text.indexOf('"', start);
    const nameEnd = findStringEnd(text, nameStart);
    if (JSON.parse(text.slice(nameStart, nameEnd)) === 'events') listStart = text.indexOf('[', nameEnd);
  }
  if (listStart === undefined) return [];
  return findMembers(text, listStart).map(({ start, end }) => text.slice(start, end).trim());
}

/** Finds the members of the object or the elements of the list whose opening bracket is at `open`, with the blanks around them. */
function findMembers(text: string, open: number): Span[] {
  const members: Span[] = [];
  for (let start = open + 1; ; ) {
    const end = findMemberEnd(text, start);
    const isLast = text.charCodeAt(end) !== COMMA;
    const isEmptyList = isLast && members.length === 0 && text.slice(start, end).trim() === '';
    if (!isEmptyList) members.push({ start, end });
    if (isLast) return members;
    start = end + 1;
  }
}

/** Finds the comma or closing bracket that ends the member which begins at `start`. */
function findMemberEnd(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = findStringEnd(text, at) - 1;
    } else if (OPENING_BRACKETS.has(code)) {
      depth += 1;
    } else if (CLOSING_BRACKETS.has(code)) {
      if (depth === 0) return at;
      depth -= 1;
    } else if (code === COMMA && depth === 0) {
      return at;
    }
  }
  return text.length;
}

/** Finds the offset behind the string whose opening quote is at `open`. */
function findStringEnd(text: string, open: number): number {
  for (let at = open + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at += 1;
    else if (code === QUOTE) return at + 1;
  }
  return text.length;
}

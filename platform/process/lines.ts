/** Receives one line of text, without its line end. */
export type LineSink = (line: string) => void;

/** A longer line is cut into pieces of this length, so that a line without end does not fill the memory. */
export const MAX_LINE_CHARS = 16_384;

/**
 * Calls `onLine` for each line of a UTF-8 stream, and for a last one without line end.
 * @returns when the stream has ended.
 */
export async function eachLine(stream: ReadableStream<Uint8Array>, onLine: LineSink): Promise<void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line.endsWith('\r') ? line.slice(0, -1) : line);
    for (; rest.length > MAX_LINE_CHARS; rest = rest.slice(MAX_LINE_CHARS)) onLine(rest.slice(0, MAX_LINE_CHARS));
  }
  rest += decoder.decode();
  if (rest !== '') onLine(rest);
}

const COLOURS = [36, 33, 35, 32, 34, 96, 93, 95];

/**
 * Prefixes the log lines of several processes with the name of each, for people who read them in one terminal.
 * @param write receives a finished line
 * @param colour whether names have the colours of a terminal; a name keeps its colour
 * @param nameWidth the width to which names are padded
 * @returns a function from the name of a process to the sink of its lines
 */
export function prefixedLogs(write: LineSink, colour: boolean, nameWidth: number): (name: string) => LineSink {
  let count = 0;
  return (name) => {
    const code = COLOURS[count++ % COLOURS.length];
    const label = `${name.padEnd(nameWidth)} │`;
    const prefix = colour ? `\x1b[${code}m${label}\x1b[0m` : label;
    return (line) => write(`${prefix} ${line}`);
  };
}

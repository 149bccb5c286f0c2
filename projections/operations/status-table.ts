import type { RunStatus } from '../engine/queries/status.ts';

const HEAD = ['projection', 'version', 'schema', 'status', 'from', 'to', 'lag', 'parked'];
const NUMBERS: ReadonlySet<string> = new Set(['version', 'from', 'to', 'lag', 'parked']);

/** Formats runs as a table for a terminal. @param end the sequence of the newest message of the event store */
export function statusTable(runs: readonly RunStatus[], end: number): string {
  const rows = runs.map((run) => [
    run.projection,
    String(run.version),
    run.schema,
    run.status,
    String(run.minPosition),
    String(run.maxPosition),
    String(Math.max(0, end - run.minPosition)),
    String(run.parkedUnits),
  ]);
  const widths = HEAD.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return NUMBERS.has(HEAD[column] ?? '') ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return `${[HEAD, ...rows].map(line).join('\n')}\n`;
}

import { stringify } from 'csv-stringify/sync';

export const CSV = 'text/csv';

export type CsvValue = string | number | null | undefined;

/**
 * Lines as RFC 4180 has them. A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay
 * as they are.
 */
export function csvLines(rows: readonly (readonly CsvValue[])[]): string {
  return stringify(rows as CsvValue[][], { record_delimiter: 'windows', escape_formulas: true });
}

/** The content type of a whole file, or of the rest of one, which has no header line. */
export function csvContentType(hasHeader: boolean): string {
  return `${CSV}; charset=utf-8; header=${hasHeader ? 'present' : 'absent'}`;
}

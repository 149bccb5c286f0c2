import { stringify } from 'csv-stringify/sync';

export const CSV = 'text/csv';

export type CsvValue = string | number | null | undefined;

/**
 * Lines of CSV (RFC 4180). A text that a spreadsheet would run as a formula gets an apostrophe in front of it; numbers stay as they
 * are.
 */
export function csvLines(rows: readonly (readonly CsvValue[])[]): string {
  return stringify(rows as CsvValue[][], { record_delimiter: 'windows', escape_formulas: true });
}

/** The content type of a file with its header line, or of the rest of a file, which has none. */
export function csvContentType(hasHeader: boolean): string {
  return `${CSV}; charset=utf-8; header=${hasHeader ? 'present' : 'absent'}`;
}

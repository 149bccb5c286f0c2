/** How often the progress of a long operation is written where the output is no terminal. */
const LINE_INTERVAL_MS = 5_000;
const BAR_CELLS = 24;
const S_PER_MINUTE = 60;
const S_PER_HOUR = 3_600;
/** The displayed rate is the mean over this time. */
const RATE_WINDOW_MS = 10_000;
const MS_PER_S = 1_000;
/** Moves the cursor to the start of the line and clears the line. */
const CLEAR_LINE = '\r\u001b[2K';

export interface Progress {
  /** Share of the whole, 0 to 1. */
  readonly share: number;
  readonly events: number;
}

export interface Output {
  write(text: string): unknown;
  /** Whether the output can redraw a line. */
  readonly isTerminal: boolean;
}

/** Shows the progress of an operation: a bar that is redrawn on a terminal, and a line every 5 s elsewhere. */
export class ProgressDisplay {
  readonly #title: string;
  readonly #output: Output;
  readonly #clock: () => number;
  readonly #samples: (Progress & { readonly atMs: number })[] = [];
  #writtenAtMs = Number.NEGATIVE_INFINITY;

  /** `clock` is monotonic and counts milliseconds. */
  constructor(title: string, output: Output, clock: () => number) {
    this.#title = title;
    this.#output = output;
    this.#clock = clock;
  }

  show(progress: Progress): void {
    const atMs = this.#clock();
    this.#samples.push({ ...progress, atMs });
    while (this.#samples.length > 2 && (this.#samples[1]?.atMs ?? 0) < atMs - RATE_WINDOW_MS) this.#samples.shift();
    if (!this.#output.isTerminal && atMs - this.#writtenAtMs < LINE_INTERVAL_MS) return;
    this.#writtenAtMs = atMs;
    const line = this.#line(progress, atMs);
    this.#output.write(this.#output.isTerminal ? `${CLEAR_LINE}${line}` : `${line}\n`);
  }

  /** Writes a line that is not redrawn. */
  printLine(text: string): void {
    this.#output.write(`${this.#output.isTerminal ? CLEAR_LINE : ''}${text}\n`);
  }

  #line({ share, events }: Progress, atMs: number): string {
    const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
    const [first] = this.#samples;
    const seconds = first === undefined ? 0 : (atMs - first.atMs) / MS_PER_S;
    const bar = this.#output.isTerminal ? [barOf(share)] : [];
    const parts = [this.#title, ...bar, percent, `${formatNumber(events)} events`];
    if (first !== undefined && seconds > 0 && share > first.share) {
      parts.push(`${formatNumber((events - first.events) / seconds)} events/s`);
      parts.push(`about ${formatDuration((seconds * (1 - share)) / (share - first.share))} left`);
    }
    return parts.join('  ');
  }
}

function barOf(share: number): string {
  const full = Math.round(share * BAR_CELLS);
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}]`;
}

/** @returns a whole number with separators, such as `12,345` */
export function formatNumber(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** @returns minutes and seconds, such as `0:42`, or hours, such as `1:02:03` */
export function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const twoDigits = (value: number) => String(value).padStart(2, '0');
  const minutes = Math.floor((whole % S_PER_HOUR) / S_PER_MINUTE);
  const rest = twoDigits(whole % S_PER_MINUTE);
  return whole < S_PER_HOUR ? `${minutes}:${rest}` : `${Math.floor(whole / S_PER_HOUR)}:${twoDigits(minutes)}:${rest}`;
}

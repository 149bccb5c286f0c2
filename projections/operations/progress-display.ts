/** How a long work shows where it is: a bar that is drawn again on a terminal, lines now and then elsewhere. */

const BAR_CELLS = 24;
const LINE_INTERVAL_MS = 5_000;
const S_PER_MINUTE = 60;
const S_PER_HOUR = 3_600;
/** Rates are those of the last moments. */
const RATE_WINDOW_MS = 10_000;
const MS_PER_S = 1_000;
/** Back to the beginning of the line, and clear it. */
const CLEAR_LINE = '\r\u001b[2K';

export interface Progress {
  /** Of the whole, 0 to 1. */
  readonly share: number;
  readonly events: number;
}

export interface Output {
  write(text: string): unknown;
  /** Whether lines can be drawn again. */
  readonly isTerminal: boolean;
}

export class ProgressDisplay {
  readonly #what: string;
  readonly #output: Output;
  readonly #clock: () => number;
  readonly #samples: (Progress & { readonly atMs: number })[] = [];
  #writtenAtMs = Number.NEGATIVE_INFINITY;

  /** `clock` gives milliseconds that only go forward. */
  constructor(what: string, output: Output, clock: () => number) {
    this.#what = what;
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

  /** A line that stays. */
  printLine(text: string): void {
    this.#output.write(`${this.#output.isTerminal ? CLEAR_LINE : ''}${text}\n`);
  }

  #line({ share, events }: Progress, atMs: number): string {
    const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
    const [first] = this.#samples;
    const seconds = first === undefined ? 0 : (atMs - first.atMs) / MS_PER_S;
    const parts = [
      this.#what,
      ...(this.#output.isTerminal ? [bar(share)] : []),
      percent,
      `${formatNumber(events)} events`,
    ];
    if (first !== undefined && seconds > 0 && share > first.share) {
      parts.push(`${formatNumber((events - first.events) / seconds)}/s`);
      parts.push(`${formatDuration((seconds * (1 - share)) / (share - first.share))} left`);
    }
    return parts.join('  ');
  }
}

function bar(share: number): string {
  const full = Math.round(share * BAR_CELLS);
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}]`;
}

export function formatNumber(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** Such as `0:42` or `1:02:03`. */
export function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const minutes = Math.floor((whole % S_PER_HOUR) / S_PER_MINUTE);
  const rest = two(whole % S_PER_MINUTE);
  return whole < S_PER_HOUR ? `${minutes}:${rest}` : `${Math.floor(whole / S_PER_HOUR)}:${two(minutes)}:${rest}`;
}

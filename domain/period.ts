/** A period of time, `[fromMs, untilMs)`, in milliseconds since 1970. */
export interface Period {
  readonly fromMs: number;
  readonly untilMs: number;
}

export function overlaps(a: Period, b: Period): boolean {
  return a.fromMs < b.untilMs && b.fromMs < a.untilMs;
}

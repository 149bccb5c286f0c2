/** The report of a benchmark: figures of the product, each with the figure of a peer or a ceiling from the same run. */

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What it is compared with, from the same run. */
  readonly against?: { readonly name: string; readonly value: number };
  /** What was aimed at, of the ratio when there is a comparison, else of the value. */
  readonly goal?: { readonly atLeast: number } | { readonly atMost: number };
  readonly note?: string;
}

export interface BenchReport {
  readonly bench: string;
  readonly conditions: readonly string[];
  readonly figures: readonly Figure[];
}

export function format(report: BenchReport): string {
  const lines = report.figures.map((figure) => {
    const value = `${round(figure.value)} ${figure.unit}`;
    const ratio = ratioOf(figure);
    const against =
      figure.against === undefined || ratio === undefined
        ? ''
        : `  ${round(ratio)} × ${figure.against.name} (${round(figure.against.value)} ${figure.unit})`;
    const note = figure.note === undefined ? '' : `\n      ${figure.note}`;
    return `  ${figure.name}: ${value}${against}${verdict(figure)}${note}`;
  });
  return [`── ${report.bench}`, ...report.conditions.map((condition) => `  (${condition})`), ...lines, ''].join('\n');
}

function ratioOf({ value, against }: Figure): number | undefined {
  return against === undefined ? undefined : value / against.value;
}

function verdict(figure: Figure): string {
  if (figure.goal === undefined) return '';
  const measured = ratioOf(figure) ?? figure.value;
  if ('atLeast' in figure.goal) {
    return `  [goal: at least ${figure.goal.atLeast}; ${measured >= figure.goal.atLeast ? 'reached' : 'NOT reached'}]`;
  }
  return `  [goal: at most ${figure.goal.atMost}; ${measured <= figure.goal.atMost ? 'reached' : 'NOT reached'}]`;
}

function round(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return value.toPrecision(3);
}

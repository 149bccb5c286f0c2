import type { Proof } from '../../platform/liveness/proof-exchange.ts';

/** How long questions gather. */
const GATHER_MS = 50;
/** Units in one question. */
const MAX_UNITS = 1_000;

interface Waiting {
  readonly unit: string;
  readonly answer: (provenMs: number | undefined) => void;
}

/** Asks other processes about many units at once. */
export class ProofQueryBatcher {
  readonly #ask: (units: readonly string[]) => Promise<readonly Proof[]>;
  #waiting: Waiting[] = [];

  constructor(query: (units: readonly string[]) => Promise<readonly Proof[]>) {
    this.#ask = query;
  }

  /** The last proof of a unit that others know, milliseconds since 1970; `undefined` when nobody does, or answers. */
  ask(unit: string): Promise<number | undefined> {
    return new Promise((answer) => {
      this.#waiting.push({ unit, answer });
      if (this.#waiting.length >= MAX_UNITS) void this.#send();
      else if (this.#waiting.length === 1) setTimeout(() => void this.#send(), GATHER_MS);
    });
  }

  async #send(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (waiting.length === 0) return;
    const proofs = await this.#ask(waiting.map(({ unit }) => unit)).catch(() => []);
    const latestMs = new Map<string, number>();
    for (const { unit, atMs } of proofs) latestMs.set(unit, Math.max(atMs, latestMs.get(unit) ?? 0));
    for (const { unit, answer } of waiting) answer(latestMs.get(unit));
  }
}

import type { Proof } from '../../platform/liveness/proof-exchange.ts';

/** How long the first query of a batch waits for others. */
const GATHER_MS = 50;
/** Most units in one batch. */
const MAX_UNITS = 1_000;

type QueryProofs = (units: readonly string[]) => Promise<readonly Proof[]>;

interface PendingQuery {
  readonly unit: string;
  readonly resolve: (provenMs: number | undefined) => void;
}

/** Combines queries for the proofs of single units into few messages to other processes. */
export class ProofQueryBatcher {
  readonly #queryProofs: QueryProofs;
  #pending: PendingQuery[] = [];

  constructor(queryProofs: QueryProofs) {
    this.#queryProofs = queryProofs;
  }

  /**
   * Asks the other processes for their last proof of a unit. Never rejects.
   * @returns milliseconds since 1970; `undefined` when no process has a proof, none responds, or the query cannot be sent
   */
  query(unit: string): Promise<number | undefined> {
    return new Promise((resolve) => {
      this.#pending.push({ unit, resolve });
      if (this.#pending.length >= MAX_UNITS) void this.#send();
      else if (this.#pending.length === 1) setTimeout(() => void this.#send(), GATHER_MS);
    });
  }

  async #send(): Promise<void> {
    const batch = this.#pending;
    this.#pending = [];
    if (batch.length === 0) return;
    const proofs = await this.#queryProofs(batch.map(({ unit }) => unit)).catch(() => []);
    const latestMs = new Map<string, number>();
    for (const { unit, atMs } of proofs) latestMs.set(unit, Math.max(atMs, latestMs.get(unit) ?? 0));
    for (const { unit, resolve } of batch) resolve(latestMs.get(unit));
  }
}

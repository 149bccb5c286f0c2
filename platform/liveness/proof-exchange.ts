/**
 * Proofs that a unit is there, between processes: one that hears a unit tells all pingers, and one that is about to call units
 * offline asks the others whether they have heard of them.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { UnitName } from '../../domain/vocabulary.ts';
import type { Nats } from '../nats/connection.ts';

/** Most units in one message. */
const MAX_UNITS = 1_000;
/** How long proofs gather before they are told. */
const GATHER_MS = 100;
/** How long others have to answer. */
const ANSWER_MS = 300;
const PROOFS_SUBJECT = 'telemetry.proofs.told';
const REQUESTS_SUBJECT = 'telemetry.proofs.asked';

const Moment = Type.Integer({ minimum: 0, description: 'milliseconds since 1970' });
const Evidence = Type.Union([Type.Literal('ping'), Type.Literal('heartbeat'), Type.Literal('command')]);
const Proof = Type.Object({ unit: UnitName, evidence: Evidence, atMs: Moment });
export type Proof = Static<typeof Proof>;
const Proofs = Type.Object({ proofs: Type.Array(Proof, { maxItems: MAX_UNITS }) });
const Question = Type.Object({
  from: Type.String(),
  units: Type.Array(UnitName, { maxItems: MAX_UNITS }),
  replyTo: Type.String({ pattern: '^_INBOX\\.[A-Za-z0-9.-]{1,80}$' }),
});

export class ProofExchange {
  readonly #nats: Nats;
  readonly #newId: () => string;
  readonly #self: string;
  #waiting = new Map<string, Proof>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(nats: Nats, newId: () => string) {
    this.#nats = nats;
    this.#newId = newId;
    this.#self = newId();
  }

  /** Tells all pingers of a proof, the last of each unit, soon. What comes while NATS is away is not told. */
  publish(proof: Proof): void {
    if (this.#waiting.size < MAX_UNITS) this.#waiting.set(proof.unit, proof);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const proofs = [...this.#waiting.values()];
      this.#waiting = new Map();
      if (this.#nats.connected) this.#nats.publish(PROOFS_SUBJECT, JSON.stringify({ proofs }));
    }, GATHER_MS);
  }

  /** Passes on what others tell. Returns the way to stop that. */
  subscribe(take: (proof: Proof) => void): () => void {
    return this.#nats.subscribe(PROOFS_SUBJECT, ({ data }) => {
      for (const proof of read(Proofs, data)?.proofs ?? []) take(proof);
    });
  }

  /** Answers others from what is known here: the last proof of a unit, if any. Returns the way to stop that. */
  respond(lastProof: (unit: string) => Omit<Proof, 'unit'> | undefined): () => void {
    return this.#nats.subscribe(REQUESTS_SUBJECT, ({ data }) => {
      const question = read(Question, data);
      if (question === undefined || question.from === this.#self) return;
      const proofs = question.units.flatMap((unit) => {
        const proof = lastProof(unit);
        return proof === undefined ? [] : [{ unit, ...proof }];
      });
      if (proofs.length > 0) this.#nats.publish(question.replyTo, JSON.stringify({ proofs }));
    });
  }

  /** The last proofs that others know of, of `MAX_UNITS` at most. Nobody need answer: that takes its time, and tells nothing. */
  async query(units: readonly string[]): Promise<readonly Proof[]> {
    const replyTo = `_INBOX.${this.#newId()}`;
    const proofs: Proof[] = [];
    const stop = this.#nats.subscribe(replyTo, ({ data }) => proofs.push(...(read(Proofs, data)?.proofs ?? [])));
    try {
      const question = { from: this.#self, units: units.slice(0, MAX_UNITS), replyTo };
      this.#nats.publish(REQUESTS_SUBJECT, JSON.stringify(question));
      await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
    } finally {
      stop();
    }
    return proofs;
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}

function read<S extends typeof Proofs | typeof Question>(schema: S, data: Uint8Array): Static<S> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(data));
    return Value.Check(schema, value) ? value : undefined;
  } catch {
    return undefined;
  }
}

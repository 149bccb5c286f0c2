/**
 * Exchanges between processes the proofs that units are alive. A process that receives an answer of a unit publishes it to all pingers, and a
 * pinger that is about to call units offline queries the proofs of all other pingers.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { UnitName } from '../../domain/vocabulary.ts';
import type { Nats } from '../nats/connection.ts';

/** Most units in one message. */
const MAX_UNITS = 1_000;
/** How long proofs gather before they are published. */
const GATHER_MS = 100;
/** How long a query waits for responses. */
const RESPONSE_TIMEOUT_MS = 300;
const PROOFS_SUBJECT = 'telemetry.proofs.told';
const QUERIES_SUBJECT = 'telemetry.proofs.asked';

const Moment = Type.Integer({ minimum: 0, description: 'Milliseconds since 1970.' });
const Evidence = Type.Union([Type.Literal('ping'), Type.Literal('heartbeat'), Type.Literal('command')]);
const Proof = Type.Object({ unit: UnitName, evidence: Evidence, atMs: Moment });
export type Proof = Static<typeof Proof>;
const ProofMessage = Type.Object({ proofs: Type.Array(Proof, { maxItems: MAX_UNITS }) });
const QueryMessage = Type.Object({
  from: Type.String(),
  units: Type.Array(UnitName, { maxItems: MAX_UNITS }),
  replyTo: Type.String({ pattern: '^_INBOX\\.[A-Za-z0-9.-]{1,80}$' }),
});

export class ProofExchange {
  readonly #nats: Nats;
  readonly #newId: () => string;
  readonly #processId: string;
  /** The newest proof of each unit since the last message. */
  #pending = new Map<string, Proof>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(nats: Nats, newId: () => string) {
    this.#nats = nats;
    this.#newId = newId;
    this.#processId = newId();
  }

  /** Publishes a proof to all pingers within `GATHER_MS`. While NATS is away, and beyond `MAX_UNITS` units, proofs are lost. */
  publish(proof: Proof): void {
    if (this.#pending.size < MAX_UNITS) this.#pending.set(proof.unit, proof);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const proofs = [...this.#pending.values()];
      this.#pending = new Map();
      if (this.#nats.connected) this.#nats.publish(PROOFS_SUBJECT, JSON.stringify({ proofs }));
    }, GATHER_MS);
  }

  /** Subscribes to the proofs that processes publish, this one included. @returns a function that ends the subscription */
  subscribe(onProof: (proof: Proof) => void): () => void {
    return this.#nats.subscribe(PROOFS_SUBJECT, ({ data }) => {
      for (const proof of decode(ProofMessage, data)?.proofs ?? []) onProof(proof);
    });
  }

  /** Responds to the queries of other processes with the last proofs of this one. @returns a function that ends the subscription */
  respond(lastProof: (unit: string) => Omit<Proof, 'unit'> | undefined): () => void {
    return this.#nats.subscribe(QUERIES_SUBJECT, ({ data }) => {
      const query = decode(QueryMessage, data);
      if (query === undefined || query.from === this.#processId) return;
      const proofs = query.units.flatMap((unit) => {
        const proof = lastProof(unit);
        return proof === undefined ? [] : [{ unit, ...proof }];
      });
      if (proofs.length > 0) this.#nats.publish(query.replyTo, JSON.stringify({ proofs }));
    });
  }

  /**
   * Queries the last proofs that other processes have, for the first `MAX_UNITS` of the units.
   * @returns all proofs that arrive within `RESPONSE_TIMEOUT_MS`; none when no process has one, or none responds
   * @throws NatsUnavailableError when not connected
   */
  async query(units: readonly string[]): Promise<readonly Proof[]> {
    const replyTo = `_INBOX.${this.#newId()}`;
    const proofs: Proof[] = [];
    const unsubscribe = this.#nats.subscribe(replyTo, ({ data }) =>
      proofs.push(...(decode(ProofMessage, data)?.proofs ?? [])),
    );
    try {
      const query = { from: this.#processId, units: units.slice(0, MAX_UNITS), replyTo };
      this.#nats.publish(QUERIES_SUBJECT, JSON.stringify(query));
      await new Promise((resolve) => setTimeout(resolve, RESPONSE_TIMEOUT_MS));
    } finally {
      unsubscribe();
    }
    return proofs;
  }

  /** Discards proofs that were not published. Subscriptions end by their own functions. */
  close(): void {
    clearTimeout(this.#timer);
  }
}

/** @returns `undefined` when the message does not match the schema */
function decode<S extends typeof ProofMessage | typeof QueryMessage>(
  schema: S,
  data: Uint8Array,
): Static<S> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(data));
    return Value.Check(schema, value) ? value : undefined;
  } catch {
    return undefined;
  }
}

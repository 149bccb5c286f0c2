import type { Nats } from '../../platform/nats/connection.ts';
import { unitHeartbeatFilter, unitOfUnitSubject } from '../../platform/nats/subjects.ts';

/** Subscribes to the heartbeats of the units of the shards that this process owns. */
export class HeartbeatSubscriptions {
  readonly #nats: Nats;
  readonly #onHeartbeat: (unit: string, content: Uint8Array) => void;
  /** By shard, the function that ends its subscription. */
  readonly #subscriptions = new Map<string, () => void>();

  constructor(nats: Nats, onHeartbeat: (unit: string, content: Uint8Array) => void) {
    this.#nats = nats;
    this.#onHeartbeat = onHeartbeat;
  }

  /** Subscribes to these shards, and ends the subscriptions to all others. */
  setShards(shards: readonly string[]): void {
    for (const [shard, unsubscribe] of this.#subscriptions) {
      if (shards.includes(shard)) continue;
      unsubscribe();
      this.#subscriptions.delete(shard);
    }
    for (const shard of shards) {
      if (!this.#subscriptions.has(shard)) this.#subscriptions.set(shard, this.#subscribe(shard));
    }
  }

  #subscribe(shard: string): () => void {
    return this.#nats.subscribe(unitHeartbeatFilter(shard), ({ subject, data }) => {
      const unit = unitOfUnitSubject(subject);
      if (unit !== undefined) this.#onHeartbeat(unit, data);
    });
  }
}

/**
 * Pushes a unit's log: what has gathered in `pushIntervalMs`, in order, one batch in flight. JetStream's acknowledgement
 * moves the place from which the next batch starts; nothing is deleted for it. What is not acknowledged is sent again.
 */

import { NatsUnavailableError } from '../../platform/nats/connection.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { FleetMetrics } from '../emulation/fleet-metrics.ts';
import type { Timers } from '../environment/clock.ts';
import type { Random } from '../environment/random.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import { firstAvailableSeq } from '../unit/model.ts';
import { type Batch, batchJson, nextBatch, reorderedHalves } from './batches.ts';
import type { NatsTransport } from './nats-transport.ts';

export const PUSH_TIMEOUT_MS = 5_000;
/** Waits after a push that failed: doubled from the first to the longest, each shortened by chance to half at most. */
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 15_000;
/** Units that come back at the same moment push their backlog spread over this. */
const RETURN_SPREAD_MS = 1_000;

export interface EventPusherDependencies {
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: FleetMetrics;
  /** Told once per reason and streak of failures. */
  readonly onFailure: (unit: string, reason: string) => void;
}

export class EventPusher {
  readonly #unit: EmulatedUnit;
  readonly #link: NatsTransport;
  readonly #deps: EventPusherDependencies;
  #disarm: (() => void) | undefined;
  #inFlight = false;
  #failures = 0;

  constructor(unit: EmulatedUnit, link: NatsTransport, deps: EventPusherDependencies) {
    this.#unit = unit;
    this.#link = link;
    this.#deps = deps;
  }

  start(): void {
    this.#unit.onChange((change) => {
      if (change === 'entries' && this.#disarm === undefined) this.#arm(this.#intervalMs());
    });
    this.#link.onConnected(() => {
      this.#failures = 0;
      this.#arm(this.#deps.random.between(0, RETURN_SPREAD_MS));
    });
  }

  #intervalMs(): number {
    return this.#unit.model.configuration.values.pushIntervalMs;
  }

  #pending(): boolean {
    const { lastSeq, acknowledgedSeq } = this.#unit.model.log;
    return lastSeq > acknowledgedSeq;
  }

  #arm(waitMs: number): void {
    if (this.#inFlight || !this.#link.isConnected || !this.#pending()) return;
    this.#disarm?.();
    this.#disarm = this.#deps.timers.after(waitMs, () => {
      this.#disarm = undefined;
      void this.#push();
    });
  }

  async #push(): Promise<void> {
    const { log } = this.#unit.model;
    const { lastSeq } = log;
    const batch = nextBatch(this.#unit, Math.max(log.acknowledgedSeq + 1, firstAvailableSeq(log)));
    if (batch === undefined || !this.#link.isConnected) return;
    const { timers, metrics, random } = this.#deps;
    this.#inFlight = true;
    const startedMs = timers.nowMs();
    const failure = await this.#deliver(batch);
    metrics.pushes += 1;
    if (failure === undefined) {
      metrics.pushLatency.add(timers.nowMs() - startedMs);
      this.#failures = 0;
      await this.#unit.markAcknowledged(batch.epoch, batch.toSeq);
    } else {
      metrics.failedPushes += 1;
      if (this.#failures === 0) this.#deps.onFailure(this.#unit.name, failure);
      this.#failures += 1;
    }
    this.#inFlight = false;
    if (failure !== undefined) {
      const wait = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.#failures - 1));
      this.#arm(wait * random.between(0.5, 1));
    } else {
      // A backlog drains batch by batch; what is new gathers for an interval.
      this.#arm(lastSeq > batch.toSeq ? 0 : this.#intervalMs());
    }
  }

  /** Sends a batch, with what the faults make of it. Gives the reason when it cannot be taken for delivered. */
  async #deliver(batch: Batch): Promise<string | undefined> {
    const { timers, random } = this.#deps;
    const { faults } = this.#unit;
    const parts = faults.reorderPushes ? reorderedHalves(batch) : [batch];
    const messages = faults.duplicatePushes ? parts.flatMap((part) => [part, part]) : parts;
    for (const message of messages) {
      await timers.pause(networkDelayMs(faults, random));
      if (isMessageLost(faults, random)) return 'lost on the way';
      const failure = await this.#publish(batchJson(this.#unit.name, message.epoch, message.bodies));
      if (failure !== undefined) return failure;
      if (isMessageLost(faults, random)) return 'the acknowledgement was lost';
    }
    return undefined;
  }

  async #publish(text: string): Promise<string | undefined> {
    try {
      const answer = await this.#link.request(unitPushSubject(this.#unit.name), text, PUSH_TIMEOUT_MS);
      return refusalIn(answer.data);
    } catch (error) {
      if (error instanceof NatsUnavailableError) return errorMessage(error);
      throw error;
    }
  }
}

/** What JetStream says when it does not take a message. */
function refusalIn(data: Uint8Array): string | undefined {
  const text = new TextDecoder().decode(data);
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer !== 'object' || answer === null) return `an answer that is none: ${text.slice(0, 200)}`;
    if ('error' in answer) return `refused: ${JSON.stringify(answer.error)}`;
    return 'seq' in answer ? undefined : `an answer that is none: ${text.slice(0, 200)}`;
  } catch {
    return `an answer that is none: ${text.slice(0, 200)}`;
  }
}

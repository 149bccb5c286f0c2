/**
 * Pushes the log of a unit to the platform: the events of `pushIntervalMs` in one batch, one batch in flight, in order of
 * `seq`. The next batch begins behind the last event that JetStream has acknowledged. An acknowledgement deletes nothing:
 * the unit deletes only what the platform names recorded.
 */

import { NatsUnavailableError } from '../../platform/nats/connection.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { FleetMetrics } from '../emulation/fleet-metrics.ts';
import type { Random } from '../environment/random.ts';
import type { Timers } from '../environment/timers.ts';
import { isMessageLost, networkDelayMs } from '../faults/faults.ts';
import { firstAvailableSeq } from '../unit/model.ts';
import { type Batch, batchJson, nextBatch, reorderedHalves } from './batches.ts';
import type { NatsTransport } from './nats-transport.ts';

export const PUSH_TIMEOUT_MS = 5_000;
/** Exponential backoff after a failed push, from the first to the longest wait; jitter shortens each by at most half. */
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 15_000;
/** Units that come back online at the same moment spread their first pushes over this time. */
const RECONNECT_SPREAD_MS = 1_000;
/** Longest part of an unreadable answer that an error text quotes. */
const MAX_QUOTED_LENGTH = 200;

export interface EventPusherDependencies {
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: FleetMetrics;
  /** Called at the first of several consecutive failures. */
  readonly onFailure: (unit: string, reason: string) => void;
}

export class EventPusher {
  readonly #unit: EmulatedUnit;
  readonly #transport: NatsTransport;
  readonly #deps: EventPusherDependencies;
  #cancelScheduled: (() => void) | undefined;
  #isInFlight = false;
  #consecutiveFailures = 0;

  constructor(unit: EmulatedUnit, transport: NatsTransport, deps: EventPusherDependencies) {
    this.#unit = unit;
    this.#transport = transport;
    this.#deps = deps;
  }

  start(): void {
    this.#unit.onChange((change) => {
      if (change === 'entries' && this.#cancelScheduled === undefined) this.#schedule(this.#intervalMs());
    });
    this.#transport.onConnected(() => {
      this.#consecutiveFailures = 0;
      this.#schedule(this.#deps.random.between(0, RECONNECT_SPREAD_MS));
    });
  }

  #intervalMs(): number {
    return this.#unit.model.configuration.values.pushIntervalMs;
  }

  #hasUnacknowledged(): boolean {
    const { lastSeq, acknowledgedSeq } = this.#unit.model.log;
    return lastSeq > acknowledgedSeq;
  }

  #schedule(waitMs: number): void {
    if (this.#isInFlight || !this.#transport.isConnected || !this.#hasUnacknowledged()) return;
    this.#cancelScheduled?.();
    this.#cancelScheduled = this.#deps.timers.after(waitMs, () => {
      this.#cancelScheduled = undefined;
      void this.#push();
    });
  }

  async #push(): Promise<void> {
    const { log } = this.#unit.model;
    const { lastSeq } = log;
    const batch = nextBatch(this.#unit, Math.max(log.acknowledgedSeq + 1, firstAvailableSeq(log)));
    if (batch === undefined || !this.#transport.isConnected) return;
    const { timers, metrics, random } = this.#deps;
    this.#isInFlight = true;
    const startedMs = timers.nowMs();
    const failure = await this.#deliver(batch);
    metrics.pushes += 1;
    if (failure === undefined) {
      metrics.pushLatency.record(timers.nowMs() - startedMs);
      this.#consecutiveFailures = 0;
      await this.#unit.markAcknowledged(batch.epoch, batch.toSeq);
    } else {
      metrics.failedPushes += 1;
      if (this.#consecutiveFailures === 0) this.#deps.onFailure(this.#unit.name, failure);
      this.#consecutiveFailures += 1;
    }
    this.#isInFlight = false;
    if (failure !== undefined) {
      const waitMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.#consecutiveFailures - 1));
      this.#schedule(waitMs * random.between(0.5, 1));
    } else {
      // A backlog is pushed without pauses. Without a backlog, new events collect for an interval.
      this.#schedule(lastSeq > batch.toSeq ? 0 : this.#intervalMs());
    }
  }

  /** Sends a batch with the faults of the unit. @returns why the batch does not count as delivered; undefined when it does */
  async #deliver(batch: Batch): Promise<string | undefined> {
    const { timers, random } = this.#deps;
    const { faults } = this.#unit;
    const parts = faults.reorderPushes ? reorderedHalves(batch) : [batch];
    const messages = faults.duplicatePushes ? parts.flatMap((part) => [part, part]) : parts;
    for (const message of messages) {
      await timers.pause(networkDelayMs(faults, random));
      if (isMessageLost(faults, random)) return 'the network lost the batch';
      const failure = await this.#publish(batchJson(this.#unit.name, message.epoch, message.bodies));
      if (failure !== undefined) return failure;
      if (isMessageLost(faults, random)) return 'the network lost the acknowledgement';
    }
    return undefined;
  }

  async #publish(batch: string): Promise<string | undefined> {
    try {
      const answer = await this.#transport.request(unitPushSubject(this.#unit.name), batch, PUSH_TIMEOUT_MS);
      return refusalOf(answer.data);
    } catch (error) {
      if (error instanceof NatsUnavailableError) return errorMessage(error);
      throw error;
    }
  }
}

/** Why JetStream did not store a message, read from its answer; undefined when the answer acknowledges the message. */
function refusalOf(data: Uint8Array): string | undefined {
  const text = new TextDecoder().decode(data);
  const unreadable = `JetStream's answer cannot be read: ${text.slice(0, MAX_QUOTED_LENGTH)}`;
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer !== 'object' || answer === null) return unreadable;
    if ('error' in answer) return `JetStream refused the batch: ${JSON.stringify(answer.error)}`;
    return 'seq' in answer ? undefined : unreadable;
  } catch {
    return unreadable;
  }
}

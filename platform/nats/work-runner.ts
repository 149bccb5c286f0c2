/** Holds the delivered messages of one consumer, runs their handlers in turns of units, and does what the results say. */

import { LRUCache } from 'lru-cache';
import type { JsMsg } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import { FailureLog } from '../observability/failure-log.ts';
import type { Nats } from './connection.ts';
import { unitOfUnitSubject } from './subjects.ts';
import { UnitLanes } from './unit-lanes.ts';
import { type Attempts, nextStep, type Step } from './work-failures.ts';
import type { WorkerOptions, WorkMessage } from './work-queue.ts';

/** Unacknowledged messages of one unit. The work of further ones is parked until the earlier ones are handled. */
export const MAX_PLACES_PER_UNIT = 256;
/** Pause before the work of a unit that has no place is retried from its parked row. */
const NO_PLACE_RETRY_MS = 5_000;
/** Pause before NATS delivers a message again whose work is parked and which stays in the stream. */
const KEPT_MESSAGE_RETRY_MS = 60_000;
/** Messages whose failures are remembered, and units whose work is known to be parked. */
const MAX_REMEMBERED = 20_000;
const NS_PER_MS = 1_000_000;
const ACK = '+ACK';

interface Held {
  readonly unit: string;
  readonly job: string;
  /** A redelivery of a held message replaces it, because NATS counts heartbeats and acknowledgements of the newest delivery. */
  message: JsMsg;
}

/** A message that is with NATS until `untilMs`. Its payload is not retained. */
interface Waiting {
  readonly sequence: number;
  /** The subject of acknowledgements. */
  readonly reply: string;
  readonly untilMs: number;
  readonly isFailure: boolean;
}

export class WorkRunner {
  readonly #nats: Nats;
  readonly #options: WorkerOptions;
  readonly #queue: string;
  readonly #newestOnly: boolean;
  readonly #lanes: UnitLanes<Held>;
  /** By sequence. */
  readonly #held = new Map<number, Held>();
  readonly #running = new Set<Promise<void>>();
  /** The messages of each unit that wait with NATS. */
  readonly #waiting = new LRUCache<string, Waiting[]>({ max: MAX_REMEMBERED });
  /** Failures by sequence, or by unit when the newest message stands for earlier ones. */
  readonly #attempts = new LRUCache<string | number, Attempts>({ max: MAX_REMEMBERED });
  readonly #parkedUnits = new LRUCache<string, true>({ max: MAX_REMEMBERED });
  readonly #infrastructure: FailureLog;
  #freed = Promise.withResolvers<void>();
  #isStopping = false;

  constructor(nats: Nats, options: WorkerOptions) {
    const { durable, queue = durable, newestOnly = false, maxConcurrent, log } = options;
    this.#nats = nats;
    this.#options = options;
    this.#queue = queue;
    this.#newestOnly = newestOnly;
    this.#lanes = new UnitLanes({
      maxRunning: maxConcurrent,
      maxRunningPerUnit: options.maxConcurrentPerUnit ?? (newestOnly ? 1 : maxConcurrent),
    });
    this.#infrastructure = new FailureLog({
      operation: `handling messages of the queue ${queue}`,
      consequence: 'NATS delivers the messages again, with exponential backoff, while the fault lasts.',
      log,
    });
  }

  /** Takes a delivered message. Resolves when the process may hold another one. */
  async take(message: JsMsg): Promise<void> {
    const { maxHeld = Number.POSITIVE_INFINITY } = this.#options;
    const again = this.#held.get(message.seq);
    if (again !== undefined) {
      again.message = message;
      return;
    }
    const held = { unit: unitOfUnitSubject(message.subject) ?? '', job: jobOf(message.subject), message };
    this.#hold(held);
    this.#startNext();
    while (this.#held.size >= maxHeld && !this.#isStopping) await this.#freed.promise;
  }

  /** Tells NATS that the held messages are being handled. */
  sendHeartbeats(): void {
    for (const { message } of this.#held.values()) message.working();
  }

  /** Starts no further handler, and resolves when the running ones have ended. The other messages go back to NATS. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#free();
    await Promise.all(this.#running);
    for (const { message } of this.#held.values()) message.nak();
  }

  #hold(held: Held): void {
    const { unit, message } = held;
    this.#held.set(message.seq, held);
    const waiting = this.#waitingOf(unit);
    if (this.#newestOnly) {
      for (const earlier of this.#lanes.removeWaiting(unit)) this.#acknowledge(earlier);
      this.#waiting.delete(unit);
      for (const earlier of waiting) if (earlier.sequence !== message.seq) this.#acknowledgeReturned(earlier);
      const backoffMs = Math.max(
        0,
        ...waiting.filter(({ isFailure }) => isFailure).map(({ untilMs }) => untilMs - now()),
      );
      if (backoffMs > 0) {
        this.#wait(held, backoffMs, true);
        return;
      }
    } else if (waiting.length + this.#lanes.countOf(unit) >= MAX_PLACES_PER_UNIT) {
      const reason = `${MAX_PLACES_PER_UNIT} earlier messages of the unit wait in the queue.`;
      this.#track(this.#park(held, { reason, error: undefined, retryInMs: NO_PLACE_RETRY_MS }, 0));
      return;
    }
    this.#lanes.add(unit, held);
  }

  #startNext(): void {
    while (!this.#isStopping) {
      const held = this.#lanes.start();
      if (held === undefined) return;
      this.#track(
        this.#run(held).finally(() => {
          this.#lanes.end(held.unit);
          this.#startNext();
        }),
      );
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  async #run(held: Held): Promise<void> {
    const { handle, random = Math.random } = this.#options;
    const key = this.#newestOnly ? held.unit : held.message.seq;
    const before = this.#attempts.get(key) ?? { failures: 0, faults: 0 };
    const isParked = this.#parkedUnits.has(held.unit);
    const { step, attempts } = await nextStep(() => handle(toWorkMessage(held.message)), before, { random, isParked });
    if (step.kind === 'done') this.#attempts.delete(key);
    else this.#attempts.set(key, attempts);
    await this.#carryOut(held, step, attempts.failures);
  }

  async #carryOut(held: Held, step: Step, failures: number): Promise<void> {
    const { parkedWork, log } = this.#options;
    if (step.kind === 'park') return this.#park(held, step, failures);
    if (step.kind === 'done') {
      this.#infrastructure.recordSuccess();
      if (this.#parkedUnits.delete(held.unit)) await this.#retryParkedSoon(held);
      this.#acknowledge(held);
      return;
    }
    if (step.isFault) this.#infrastructure.recordFailure(step.error);
    else if (step.isFailure) {
      log.warn(`The queue ${this.#queue} could not handle a message; it is retried.`, {
        unit: held.unit,
        sequence: held.message.seq,
        reason: step.reason,
        error: step.error,
      });
    }
    if (step.isFailure) parkedWork?.countRetry(this.#queue);
    this.#wait(held, step.ms, step.isFailure);
  }

  /** Stores the work for operators, then acknowledges the message. While Postgres is away, the message is retried instead. */
  async #park(
    held: Held,
    { reason, error, retryInMs }: { readonly reason: string; readonly error: unknown; readonly retryInMs: number },
    attempts: number,
  ): Promise<void> {
    const { parkedWork, stream, keepsParkedMessages = false, log } = this.#options;
    const { unit, job, message } = held;
    const context = { queue: this.#queue, unit, job, reason, error };
    if (parkedWork === undefined) {
      log.error('The work of a unit fails, and this process cannot park it. NATS delivers it again.', context);
      return this.#wait(held, KEPT_MESSAGE_RETRY_MS, true);
    }
    try {
      const { subject, seq: sequence } = message;
      const work = { queue: this.#queue, unit, job, stream, subject, sequence, attempts, retryInMs };
      const isNew = await parkedWork.park({
        ...work,
        reason,
        error: error === undefined ? undefined : errorMessage(error),
      });
      this.#parkedUnits.set(unit, true);
      this.#attempts.delete(this.#newestOnly ? unit : sequence);
      if (isNew) log.error('Work of a unit is parked until it succeeds or an operator retries it.', context);
      if (keepsParkedMessages) this.#wait(held, KEPT_MESSAGE_RETRY_MS, false);
      else this.#acknowledge(held);
    } catch (failure) {
      this.#infrastructure.recordFailure(failure);
      this.#wait(held, NO_PLACE_RETRY_MS, true);
    }
  }

  async #retryParkedSoon({ unit, job }: Held): Promise<void> {
    try {
      await this.#options.parkedWork?.retrySoon({ queue: this.#queue, unit, job });
    } catch (error) {
      // The parked work is retried at its own pace.
      this.#options.log.debug('Parked work could not be retried early.', { unit, job, error });
    }
  }

  /** Gives a message back to NATS for some time. A newer message of its unit stands for it: it waits instead, or runs if nothing failed. */
  #wait(held: Held, ms: number, isFailure: boolean): void {
    if (this.#newestOnly && this.#lanes.hasWaiting(held.unit)) {
      this.#acknowledge(held);
      if (isFailure) for (const newer of this.#lanes.removeWaiting(held.unit)) this.#giveBack(newer, ms, isFailure);
      return;
    }
    this.#giveBack(held, ms, isFailure);
  }

  #giveBack(held: Held, ms: number, isFailure: boolean): void {
    const { unit, message } = held;
    // Noted before NATS hears of it, so that the message is never noted as waiting when NATS has delivered it already.
    const untilMs = now() + ms;
    // Every message of a consumer has a reply subject, which the type of the package lacks.
    const { reply, seq: sequence } = message as JsMsg & { readonly reply: string };
    this.#waiting.set(unit, [...this.#waitingOf(unit), { sequence, reply, untilMs, isFailure }]);
    // The server ignores a pause with a fraction, and delivers the message at once.
    message.nak(Math.ceil(ms));
    this.#release(message.seq);
  }

  #acknowledge({ message }: Held): void {
    const { acks } = this.#options;
    if (acks === undefined) message.ack();
    else acks.add(message);
    this.#release(message.seq);
  }

  /** Acknowledges a message that was given back. The client sends one answer for each message, so this one is sent without it. */
  #acknowledgeReturned({ reply }: Waiting): void {
    this.#nats.client.publish(reply, ACK);
  }

  #release(sequence: number): void {
    this.#held.delete(sequence);
    this.#free();
  }

  #free(): void {
    this.#freed.resolve();
    this.#freed = Promise.withResolvers();
  }

  #waitingOf(unit: string): readonly Waiting[] {
    const nowMs = now();
    return (this.#waiting.get(unit) ?? []).filter(({ untilMs }) => untilMs > nowMs);
  }
}

/** Milliseconds of a clock that never jumps. */
function now(): number {
  return performance.now();
}

function toWorkMessage(message: JsMsg): WorkMessage {
  return {
    subject: message.subject,
    data: message.data,
    sequence: message.seq,
    deliveries: message.info.redeliveryCount,
    storedAtMs: Math.floor(message.info.timestampNanos / NS_PER_MS),
    header: (name) => message.headers?.get(name) || undefined,
  };
}

/** The last token of a subject: the kind of a job, or the aggregate of an event. */
function jobOf(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

/**
 * Heartbeats as telemetry: what each says about its unit, many of them in one message.
 *
 * That one came is proof of the unit, whatever is in it: only the unit may publish on its subject. What is in it counts only
 * when it can be read and names the unit.
 */

import { Value } from '@sinclair/typebox/value';
import { clockOffsetMs } from '../../domain/device/unit-clock.ts';
import { PingReply } from '../../domain/unit-protocol/commands.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResultOf } from '../../platform/liveness/telemetry.ts';
import type { Log } from '../../platform/observability/log.ts';

/** How long heartbeats gather before they are told. */
export const HEARTBEAT_GATHER_MS = 500;
/** Most bytes of a heartbeat; a longer one is not read. */
const MAX_HEARTBEAT_BYTES = 4 * 1024;
/** Units whose last offset is kept; of further ones, each heartbeat counts as it is. */
const MAX_KNOWN_OFFSETS = 500_000;
/** The longest that heartbeats which cannot be read go unmentioned. */
const UNREADABLE_REPORT_INTERVAL_MS = 60_000;

export interface HeartbeatTelemetryOptions {
  /** Takes `MAX_TELEMETRY_RESULTS` at most. */
  readonly publish: (results: readonly TelemetryResultOf<'heartbeat'>[]) => void;
  readonly onUnreadable: () => void;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly log: Log;
}

export class HeartbeatTelemetry {
  readonly #options: HeartbeatTelemetryOptions;
  /** What waits to be told: the newest of each unit. */
  #waiting = new Map<string, TelemetryResultOf<'heartbeat'>>();
  readonly #offsetsMs = new Map<string, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unreadable = 0;
  #reportedMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(options: HeartbeatTelemetryOptions) {
    this.#options = options;
  }

  /** A heartbeat of `unit` arrived. `atMs`: milliseconds since 1970. */
  record(unit: string, content: Uint8Array, atMs: number): void {
    if (this.#stopped) return;
    const reply = readHeartbeat(unit, content);
    if (reply === undefined) this.#noteUnreadable(unit);
    this.#waiting.set(unit, { heard: 'heartbeat', unit, at: atMs, ...(reply && this.#said(reply, atMs)) });
    if (this.#waiting.size >= MAX_TELEMETRY_RESULTS) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), HEARTBEAT_GATHER_MS);
  }

  /** Tells what waits. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const results = [...this.#waiting.values()];
    this.#waiting = new Map();
    if (results.length > 0) this.#options.publish(results);
  }

  forget(unit: string): void {
    this.#offsetsMs.delete(unit);
  }

  stop(): void {
    this.flush();
    this.#stopped = true;
  }

  #said({ unit, epoch, lastSeq, configurationHash, time }: PingReply, atMs: number) {
    const offsetMs = this.#offset(unit, clockOffsetMs(time, atMs));
    return { epoch, lastSeq, configurationHash, ...(offsetMs === undefined ? {} : { clockOffsetMs: offsetMs }) };
  }

  /**
   * The greater of the last two: a heartbeat that was under way for long makes a clock look behind, never ahead, so one that
   * was held up somewhere does not make a clock wrong.
   */
  #offset(unit: string, offsetMs: number | undefined): number | undefined {
    if (offsetMs === undefined) return undefined;
    const before = this.#offsetsMs.get(unit);
    if (before !== undefined || this.#offsetsMs.size < MAX_KNOWN_OFFSETS) this.#offsetsMs.set(unit, offsetMs);
    return Math.max(offsetMs, before ?? offsetMs);
  }

  #noteUnreadable(unit: string): void {
    const { onUnreadable, monotonic, log } = this.#options;
    onUnreadable();
    this.#unreadable += 1;
    const nowMs = monotonic();
    if (nowMs - this.#reportedMs < UNREADABLE_REPORT_INTERVAL_MS) return;
    log.warn('heartbeats cannot be read: they count as signs of life only', {
      heartbeats: this.#unreadable,
      last: unit,
    });
    this.#reportedMs = nowMs;
    this.#unreadable = 0;
  }
}

/** What a unit says about itself in a heartbeat; `undefined` when it cannot be read, or is about another unit. */
function readHeartbeat(unit: string, content: Uint8Array): PingReply | undefined {
  if (content.length > MAX_HEARTBEAT_BYTES) return undefined;
  try {
    const reply: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(content));
    return Value.Check(PingReply, reply) && reply.unit === unit ? reply : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Publishes heartbeats as telemetry: what each heartbeat reports about its unit, many of them in one message.
 *
 * A heartbeat proves that its unit is alive whatever its content, because only the unit may publish on its subject. The content counts
 * only when it is readable and names the unit.
 */

import { Value } from '@sinclair/typebox/value';
import { clockOffsetMs } from '../../domain/device/unit-clock.ts';
import { PingReply } from '../../domain/unit-protocol/commands.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResultOf } from '../../platform/liveness/telemetry-message.ts';
import type { Log } from '../../platform/observability/log.ts';

/** How long heartbeats gather before they are published. */
export const HEARTBEAT_GATHER_MS = 500;
/** Most bytes of a readable heartbeat. */
const MAX_HEARTBEAT_BYTES = 4 * 1024;
/** Minimum time between two warnings about unreadable heartbeats. */
const UNREADABLE_REPORT_INTERVAL_MS = 60_000;

export interface HeartbeatTelemetryOptions {
  /** Most unit indexes. */
  readonly capacity: number;
  /** Publishes at most `MAX_TELEMETRY_RESULTS` results. */
  readonly publish: (results: readonly TelemetryResultOf<'heartbeat'>[]) => void;
  readonly onUnreadable: () => void;
  /** Milliseconds of the monotonic clock. */
  readonly monotonic: () => number;
  readonly log: Log;
}

export class HeartbeatTelemetry {
  readonly #options: HeartbeatTelemetryOptions;
  /** The newest heartbeat of each unit since the last message. */
  #pending = new Map<string, TelemetryResultOf<'heartbeat'>>();
  /** By unit: the clock offset in its last heartbeat, where `#hasClockOffset` is 1. */
  readonly #clockOffsetsMs: Float64Array;
  readonly #hasClockOffset: Uint8Array;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unreadable = 0;
  #reportedMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(options: HeartbeatTelemetryOptions) {
    this.#options = options;
    this.#clockOffsetsMs = new Float64Array(options.capacity);
    this.#hasClockOffset = new Uint8Array(options.capacity);
  }

  /** Records a heartbeat of the unit with this name and index. `atMs`: its arrival, milliseconds since 1970. */
  record(unit: string, index: number | undefined, content: Uint8Array, atMs: number): void {
    if (this.#stopped) return;
    const reply = readHeartbeat(unit, content);
    if (reply === undefined) this.#reportUnreadable(unit);
    const report = reply === undefined ? {} : this.#reportOf(reply, index, atMs);
    this.#pending.set(unit, { heard: 'heartbeat', unit, at: atMs, ...report });
    if (this.#pending.size >= MAX_TELEMETRY_RESULTS) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), HEARTBEAT_GATHER_MS);
  }

  /** Publishes the heartbeats that have gathered. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const results = [...this.#pending.values()];
    this.#pending = new Map();
    if (results.length > 0) this.#options.publish(results);
  }

  /** Forgets the clock offset at an index, which belongs to another unit from now on. */
  reset(index: number): void {
    this.#hasClockOffset[index] = 0;
  }

  /** Publishes what has gathered, and records no further heartbeats. */
  stop(): void {
    this.flush();
    this.#stopped = true;
  }

  #reportOf({ epoch, lastSeq, configurationHash, time }: PingReply, index: number | undefined, atMs: number) {
    const offsetMs = this.#smoothedOffsetMs(index, clockOffsetMs(time, atMs));
    return { epoch, lastSeq, configurationHash, ...(offsetMs === undefined ? {} : { clockOffsetMs: offsetMs }) };
  }

  /**
   * The greater clock offset of the last two heartbeats. A delayed heartbeat makes a unit's clock look behind, never ahead, so that one
   * delay does not falsify the offset.
   */
  #smoothedOffsetMs(index: number | undefined, offsetMs: number | undefined): number | undefined {
    if (offsetMs === undefined || index === undefined) return offsetMs;
    const before = this.#hasClockOffset[index] === 1 ? this.#clockOffsetsMs[index] : undefined;
    this.#clockOffsetsMs[index] = offsetMs;
    this.#hasClockOffset[index] = 1;
    return Math.max(offsetMs, before ?? offsetMs);
  }

  #reportUnreadable(unit: string): void {
    const { onUnreadable, monotonic, log } = this.#options;
    onUnreadable();
    this.#unreadable += 1;
    const nowMs = monotonic();
    if (nowMs - this.#reportedMs < UNREADABLE_REPORT_INTERVAL_MS) return;
    log.warn(
      'Heartbeats are unreadable: they prove that their units are alive, but their content is ignored. Check the firmware of the ' +
        'units against the unit protocol.',
      { heartbeats: this.#unreadable, last: unit },
    );
    this.#reportedMs = nowMs;
    this.#unreadable = 0;
  }
}

/** @returns `undefined` when the content is unreadable or names another unit */
function readHeartbeat(unit: string, content: Uint8Array): PingReply | undefined {
  if (content.length > MAX_HEARTBEAT_BYTES) return undefined;
  try {
    const reply: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(content));
    return Value.Check(PingReply, reply) && reply.unit === unit ? reply : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What pings and heartbeats tell of a unit, joined. Each part is the newest of its kind, so the order in which results come
 * does not matter, and no part undoes another: a ping that was missed says only that somebody asked.
 */

import type { Heard, TelemetryResult } from '../../platform/telemetry.ts';

/**
 * Offsets from heartbeats count only when no ping was answered for so long: nobody knows how long a heartbeat was under way,
 * while an answer was made between its question and its arrival.
 */
export const PING_CLOCK_PRECEDENCE_MS = 120_000;

/** What was heard of a unit since it was written last. */
export interface UnitNews {
  readonly unit: string;
  readonly answer?: Heard<'answer'>;
  /** The newest answer that tells the unit's clock: one that took long does not. */
  readonly clockAnswer?: Heard<'answer'>;
  readonly heartbeat?: Heard<'heartbeat'>;
  readonly miss?: Heard<'nothing'>;
}

/** Takes a result in. */
export function withResult(news: UnitNews | undefined, result: TelemetryResult): UnitNews {
  const known = news ?? { unit: result.unit };
  switch (result.heard) {
    case 'answer': {
      const answer = newer(known.answer, result);
      if (result.clockOffsetMs === undefined) return { ...known, answer };
      return { ...known, answer, clockAnswer: newer(known.clockAnswer, result) };
    }
    case 'heartbeat':
      return { ...known, heartbeat: newer(known.heartbeat, result) };
    case 'nothing':
      return { ...known, miss: newer(known.miss, result) };
  }
}

/** Joins what was heard at two times, whichever was first. */
export function joined(a: UnitNews, b: UnitNews): UnitNews {
  return [b.answer, b.clockAnswer, b.heartbeat, b.miss].reduce<UnitNews>(
    (news, result) => (result === undefined ? news : withResult(news, result)),
    a,
  );
}

/** The newest that proves that the unit is there. */
export function proofOf({ answer, heartbeat }: UnitNews): Heard<'answer' | 'heartbeat'> | undefined {
  if (answer === undefined || heartbeat === undefined) return answer ?? heartbeat;
  return heartbeat.at > answer.at ? heartbeat : answer;
}

export interface ClockReading {
  readonly offsetMs: number;
  /** Milliseconds since 1970. */
  readonly atMs: number;
  readonly isOfPing: boolean;
}

/** What the news say about the unit's clock. */
export function clockOf({ clockAnswer, heartbeat }: UnitNews): ClockReading | undefined {
  if (clockAnswer?.clockOffsetMs !== undefined) {
    const isLate = heartbeat?.clockOffsetMs !== undefined && heartbeat.at > clockAnswer.at + PING_CLOCK_PRECEDENCE_MS;
    if (!isLate) return { offsetMs: clockAnswer.clockOffsetMs, atMs: clockAnswer.at, isOfPing: true };
  }
  if (heartbeat?.clockOffsetMs === undefined) return undefined;
  return { offsetMs: heartbeat.clockOffsetMs, atMs: heartbeat.at, isOfPing: false };
}

function newer<T extends TelemetryResult>(known: T | undefined, result: T): T {
  return known === undefined || result.at > known.at ? result : known;
}

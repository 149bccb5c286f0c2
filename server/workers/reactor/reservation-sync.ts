/**
 * Sends a unit the list of its reservations, and records what the unit makes of it.
 *
 * The list is a level: each sync computes it from the latest state of the unit, whatever caused the sync. The work queue runs at most
 * one sync for each unit in a process, and the newest job stands for the earlier ones. Two servers may sync a unit at the same time:
 * the unit keeps the newer page.
 *
 * A sync waits while the unit has reported more of its log than is recorded, because the list would lack uses that have begun. The wait is
 * bounded: a page names the recorded place from which it was computed, and the unit ends no rental that began behind that place.
 */

import { LRUCache } from 'lru-cache';
import type { RegisteredUnit } from '../../../domain/registry/registry.ts';
import { reservationListRound } from '../../../domain/unit/reservation-list.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { isAnswerInconclusive, isRecordedUpTo, recordUnitAnswer } from '../../../domain/unit/unit-answer.ts';
import type { SyncReservations } from '../../../domain/unit-protocol/reservation-list.ts';
import type { ReservationSecrets } from '../../../platform/credentials/reservation-secrets.ts';
import type { RetrySchedule } from '../../../platform/nats/work-failures.ts';
import type { WorkResult } from '../../../platform/nats/work-queue.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { type UnitCommandClient, UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

/** How long after the request a unit may apply a page. */
const SYNC_TTL_MS = 30_000;
/** After the last attempt the job ends. The next change, or the unit coming online, adds a new job. */
const SYNC_RETRIES: RetrySchedule = { firstMs: 2_000, maxMs: 15_000, maxAttempts: 40, whenExhausted: 'done' };
/** Most time in which one sync begins to send pages. The next one begins with the pages that the unit has not acknowledged. */
const MAX_ROUND_MS = 30_000;
/** A sync waits this long for events that the unit has reported. */
const LOG_WAIT_MS = 30_000;
const LOG_POLL_MS = 1_000;
/** Pause between two syncs of a unit whose list has several pages, so that the changes of a busy unit share them. */
const LARGE_LIST_PAUSE_MS = 1_000;
/** Units whose last answer or wait is remembered. */
const MAX_REMEMBERED_UNITS = 20_000;

/** A place in the log of a unit. */
export interface LogPlace {
  readonly epoch: string;
  readonly seq: number;
}

export interface ReservationSyncOptions {
  readonly decider: UnitDecider;
  readonly commands: Pick<UnitCommandClient, 'send'>;
  readonly secrets: Pick<ReservationSecrets, 'accessCode'>;
  /** The end of its log that the unit has named in a ping or heartbeat; `undefined` when it has named none. */
  readonly reportedPlace: (unit: string) => Promise<LogPlace | undefined>;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly log: Log;
}

type PageOutcome = 'done' | 'inconclusive' | { readonly failure: string };

export class ReservationSync {
  readonly #options: ReservationSyncOptions;
  /** The end of its log that each unit named in its last answer. */
  readonly #answeredPlaces = new LRUCache<string, LogPlace>({ max: MAX_REMEMBERED_UNITS });
  /** Since when the sync of each unit waits for its log, milliseconds since 1970. */
  readonly #waitingSince = new LRUCache<string, number>({ max: MAX_REMEMBERED_UNITS });

  /** When the last sync of each unit with several pages ended, milliseconds since 1970. */
  readonly #largeListSentAtMs = new LRUCache<string, number>({ max: MAX_REMEMBERED_UNITS });

  constructor(options: ReservationSyncOptions) {
    this.#options = options;
  }

  /** Brings the unit's knowledge up to date. The reactor adds a job for an offline unit when it comes online. */
  async syncUnit(unit: string): Promise<WorkResult> {
    const { decider, secrets, clock } = this.#options;
    const pauseMs = this.#pauseMs(unit);
    if (pauseMs > 0) return { retryInMs: pauseMs };
    const state = await decider.getLatestState(unit);
    const { registry, connectivity } = state;
    // No attempt succeeds before a rotation of the credentials, after which the reactor adds a job.
    const isReachable = registry.status === 'registered' && !registry.credentialsRevoked;
    if (!isReachable || connectivity.status !== 'online') return 'done';
    const startedAtMs = clock();
    if (await this.#waitsForLog(state, startedAtMs)) return { retryInMs: LOG_POLL_MS };
    const pages = reservationListRound(state, registry, (reservation) => secrets.accessCode(reservation), startedAtMs);
    let isConclusive = true;
    for (const page of pages) {
      if (clock() - startedAtMs > MAX_ROUND_MS) return { retryInMs: LOG_POLL_MS };
      const outcome = await this.#sendPage(registry, state, page);
      if (outcome === 'inconclusive') isConclusive = false;
      else if (outcome !== 'done') return { retry: SYNC_RETRIES, reason: outcome.failure };
    }
    if (pages.length > 1) this.#largeListSentAtMs.set(unit, clock());
    if (isConclusive) return 'done';
    return { retry: SYNC_RETRIES, reason: `Unit ${unit} has events that are not recorded yet.` };
  }

  /** How long the next sync of a unit waits. A clock that was set back makes none wait longer than the pause. */
  #pauseMs(unit: string): number {
    const sentAtMs = this.#largeListSentAtMs.get(unit);
    if (sentAtMs === undefined) return 0;
    return Math.min(sentAtMs + LARGE_LIST_PAUSE_MS - this.#options.clock(), LARGE_LIST_PAUSE_MS);
  }

  /** Whether the unit has reported events that are not recorded, and the sync has not waited long enough for them. */
  async #waitsForLog(state: UnitState, nowMs: number): Promise<boolean> {
    const { name } = state;
    const sinceMs = this.#waitingSince.get(name) ?? nowMs;
    if (nowMs - sinceMs < LOG_WAIT_MS && !(await this.#isLogRecorded(state))) {
      this.#waitingSince.set(name, sinceMs);
      return true;
    }
    this.#waitingSince.delete(name);
    return false;
  }

  async #isLogRecorded(state: UnitState): Promise<boolean> {
    const answered = this.#answeredPlaces.get(state.name);
    if (answered !== undefined && !isRecordedUpTo(state, answered)) return false;
    const { reportedPlace, log } = this.#options;
    try {
      const reported = await reportedPlace(state.name);
      return reported === undefined || isRecordedUpTo(state, reported);
    } catch (error) {
      // The page names the place from which it was computed, so it is safe without this knowledge.
      log.warn(
        `The sync of unit ${state.name} does not know how much of the log is missing, and sends the list at once.`,
        {
          reason: errorMessage(error),
        },
      );
      return true;
    }
  }

  async #sendPage(unit: RegisteredUnit, sentFrom: UnitState, page: SyncReservations): Promise<PageOutcome> {
    const { commands, newId } = this.#options;
    const command = { commandId: newId(), syncReservations: page };
    try {
      const answer = await commands.send(unit, command, { ttlMs: SYNC_TTL_MS });
      const { status, reason } = answer;
      if (status !== 'done') {
        const why = reason === undefined ? status : `${status}, ${reason}`;
        return { failure: `Unit ${unit.name} did not accept its list of reservations (${why}).` };
      }
      if (answer.log !== undefined) {
        this.#answeredPlaces.set(unit.name, { epoch: answer.log.epoch, seq: answer.log.lastSeq });
      }
      const answered = { sentFrom, page, answer };
      await this.#recordAnswer(unit.name, answered);
      return isAnswerInconclusive(answered) ? 'inconclusive' : 'done';
    } catch (error) {
      if (!(error instanceof UnitUnreachableError)) throw error;
      return { failure: error.message };
    }
  }

  /** A page has at most `MAX_PAGE_RESERVATIONS` reservations, so what follows from its answer fits into one commit. */
  async #recordAnswer(unit: string, answered: Parameters<typeof recordUnitAnswer>[1]): Promise<void> {
    const { decider, newId, clock } = this.#options;
    const meta = { commandId: newId(), actor: `unit:${unit}`, source: '/lockfleet/server' };
    await decider.decide(unit, 'booking', meta, (state) => recordUnitAnswer(state, answered, clock()));
  }
}

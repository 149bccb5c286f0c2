/**
 * Records what units report, whichever way it came: the one writer of `device` and of `log`.
 *
 * What is recorded is a fold of `device`, so nothing else is kept and two writers at once cannot record anything twice: the
 * append of the slower one fails on the subject's sequence, it folds again and finds the events recorded.
 */

import { closeFilledGaps, closeLostGap, detectGap, nextExpectedSeq } from '../../domain/device/unit-log.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { Log } from '../observability/log.ts';
import type { DecisionMeta, UnitDecider } from '../units/unit-decider.ts';
import { type AppendPlan, type ParsedBatch, planAppend } from './batch.ts';
import type { ClockOffsetCache } from './clock-offset-cache.ts';
import type { DeadLetterStore, UnreadableBatch } from './dead-letter-store.ts';

const NOTHING_ACCEPTED: AppendPlan = {
  events: [],
  waitingFrom: undefined,
  unstoredRejections: new Map(),
  isPart: false,
};

export interface UnitLogRecorderOptions {
  readonly decider: UnitDecider;
  readonly deadLetters: Pick<DeadLetterStore, 'insertRejectedEvents' | 'insertUnreadableBatch'>;
  /** Whose clock is wrong. */
  readonly clockOffsets: Pick<ClockOffsetCache, 'get'>;
  readonly newId: () => string;
  readonly log: Log;
}

export interface RecordedBatch {
  /** The unit afterwards. */
  readonly state: UnitState;
  /** The first seq of the batch that has to wait for those before it. */
  readonly waitingFrom: number | undefined;
}

export class UnitLogRecorder {
  readonly #options: UnitLogRecorderOptions;

  constructor(options: UnitLogRecorderOptions) {
    this.#options = options;
  }

  /** The unit, as fresh as this process knows it. @throws StoreUnavailableError */
  getState(unit: string): Promise<UnitState> {
    return this.#options.decider.getState(unit);
  }

  /**
   * Records what follows on what is recorded, and closes the gaps that this fills. `receivedAtMs`: when the platform got the
   * batch, milliseconds since 1970.
   *
   * @throws StoreUnavailableError, PostgresUnavailableError, DeadLetterLimitError: try again later
   */
  async recordBatch(batch: ParsedBatch, receivedAtMs: number): Promise<RecordedBatch> {
    const { decider, deadLetters, clockOffsets } = this.#options;
    const { unit, epoch } = batch;
    const clockOffsetMs = clockOffsets.get(unit);
    const kept = new Set<number>();
    for (;;) {
      const found: { accepted?: AppendPlan } = {};
      const { state } = await decider.appendReported(unit, 'device', (current) => {
        found.accepted = planAppend(batch, current, { receivedAtMs, storedRejections: kept, clockOffsetMs });
        return found.accepted.events;
      });
      const { unstoredRejections, waitingFrom, isPart } = found.accepted ?? NOTHING_ACCEPTED;
      if (unstoredRejections.size > 0) {
        // What takes the place of a rejected event says little of it: the event itself is kept first.
        await deadLetters.insertRejectedEvents({
          unit,
          epoch,
          receivedAtMs,
          rejections: [...unstoredRejections.values()],
          clockOffsetMs,
        });
        for (const index of unstoredRejections.keys()) kept.add(index);
      } else if (!isPart) {
        return { state: await this.#closeGaps(state), waitingFrom };
      }
    }
  }

  /** Notes that a batch cannot be read at all, and keeps it. @throws as `recordBatch` */
  async recordUnreadableBatch(batch: UnreadableBatch): Promise<void> {
    await this.#options.deadLetters.insertUnreadableBatch(batch);
    await this.#noteUnreadable(batch);
  }

  /** As `recordUnreadableBatch`, for what a unit answers whenever it is asked: only the first time. @throws as `recordBatch` */
  async recordUnreadablePage(page: UnreadableBatch): Promise<void> {
    if (await this.#options.deadLetters.insertUnreadableBatch(page)) await this.#noteUnreadable(page);
  }

  async #noteUnreadable({ unit, messageId, reason, content }: UnreadableBatch): Promise<void> {
    const { decider, log } = this.#options;
    log.warn('a batch cannot be read', { unit, reason });
    await decider.decide(unit, 'log', { ...this.#meta(), commandId: messageId }, () => [
      { type: 'UnitBatchRejected', data: { reason, bytes: content.length } },
    ]);
  }

  /** Events from `arrivedSeq` on have waited for too long. @throws StoreUnavailableError */
  async recordGap(unit: string, epoch: string, arrivedSeq: number): Promise<void> {
    const { decider, log } = this.#options;
    const { appended } = await decider.decide(unit, 'log', this.#meta(), (state) =>
      detectGap(state, { epoch, arrivedSeq }),
    );
    if (appended) log.warn('a unit’s log has a gap', { unit, epoch, arrivedSeq });
  }

  /**
   * The unit no longer has what is missing before `firstAvailableSeq`: it is lost, and the log goes on behind it. The caller
   * has seen to it that nothing of it is on the way. @throws StoreUnavailableError
   */
  async recordLostRange(unit: string, epoch: string, firstAvailableSeq: number): Promise<void> {
    const { decider, log } = this.#options;
    const { state, appended } = await decider.decide(unit, 'log', this.#meta(), (current) =>
      closeLostGap(current, { epoch, firstAvailableSeq }),
    );
    if (appended) {
      log.error('events of a unit are lost', {
        unit,
        epoch,
        ...state.log.lost[epoch],
        next: nextExpectedSeq(state.log, state.device, epoch),
      });
    }
  }

  async #closeGaps(state: UnitState): Promise<UnitState> {
    if (closeFilledGaps(state).length === 0) return state;
    return (await this.#options.decider.decide(state.name, 'log', this.#meta(), closeFilledGaps)).state;
  }

  #meta(): DecisionMeta {
    return { commandId: this.#options.newId(), actor: 'platform:ingest', source: '/lockfleet/server' };
  }
}

/**
 * Records the events that units push or that the platform fetches. Only the recorder writes the subjects `device` and `log`.
 *
 * The recorded seq of a unit is part of the state folded from `device`. Optimistic concurrency keeps two writers from recording an
 * event twice: the later append fails, the decider folds the new commit, and the plan then skips the recorded events.
 */

import { closeFilledGaps, closeLostGap, detectGap, nextExpectedSeq } from '../../domain/device/unit-log.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { Log } from '../observability/log.ts';
import type { DecisionMeta, UnitDecider } from '../units/unit-decider.ts';
import { type AppendPlan, type ParsedBatch, planAppend } from './batch.ts';
import type { ClockOffsetCache } from './clock-offset-cache.ts';
import type { DeadLetterStore, UnreadableBatch } from './dead-letter-store.ts';

const EMPTY_PLAN: AppendPlan = {
  events: [],
  waitingFrom: undefined,
  unstoredRejections: new Map(),
  isPart: false,
};

export interface UnitLogRecorderOptions {
  readonly decider: UnitDecider;
  readonly deadLetters: Pick<DeadLetterStore, 'insertRejectedEvents' | 'insertUnreadableBatch'>;
  readonly clockOffsets: Pick<ClockOffsetCache, 'get'>;
  readonly newId: () => string;
  readonly log: Log;
}

export interface RecordedBatch {
  /** The state of the unit after the append. */
  readonly state: UnitState;
  /** The first seq of the batch after a gap; undefined when the whole batch is recorded. */
  readonly waitingFrom: number | undefined;
}

export class UnitLogRecorder {
  readonly #options: UnitLogRecorderOptions;

  constructor(options: UnitLogRecorderOptions) {
    this.#options = options;
  }

  /** Returns the cached state of a unit; commits of other processes may be missing. @throws StoreUnavailableError */
  getState(unit: string): Promise<UnitState> {
    return this.#options.decider.getState(unit);
  }

  /**
   * Records the events of a batch up to the first gap, and closes the gaps that they fill. `receivedAtMs`: when the platform received
   * the batch, milliseconds since 1970.
   *
   * @throws StoreUnavailableError, PostgresUnavailableError, DeadLetterLimitError: retryable
   */
  async recordBatch(batch: ParsedBatch, receivedAtMs: number): Promise<RecordedBatch> {
    const { decider, deadLetters, clockOffsets } = this.#options;
    const { unit, epoch } = batch;
    const clockOffsetMs = clockOffsets.get(unit);
    const storedRejections = new Set<number>();
    for (;;) {
      const last: { plan?: AppendPlan } = {};
      const { state } = await decider.appendReported(unit, 'device', (current) => {
        last.plan = planAppend(batch, current, { receivedAtMs, storedRejections, clockOffsetMs });
        return last.plan.events;
      });
      const { unstoredRejections, waitingFrom, isPart } = last.plan ?? EMPTY_PLAN;
      if (unstoredRejections.size > 0) {
        // `UnitEventRejected` does not contain the event, so the event is stored as a dead letter first.
        await deadLetters.insertRejectedEvents({
          unit,
          epoch,
          receivedAtMs,
          rejections: [...unstoredRejections.values()],
          clockOffsetMs,
        });
        for (const index of unstoredRejections.keys()) storedRejections.add(index);
      } else if (!isPart) {
        return { state: await this.#closeGaps(state), waitingFrom };
      }
    }
  }

  /** Stores an unreadable batch as a dead letter and records `UnitBatchRejected`. @throws as `recordBatch` */
  async recordUnreadableBatch(batch: UnreadableBatch): Promise<void> {
    await this.#options.deadLetters.insertUnreadableBatch(batch);
    await this.#recordBatchRejected(batch);
  }

  /** As `recordUnreadableBatch`, for a fetched page. Only the first call for a message id records. @throws as `recordBatch` */
  async recordUnreadablePage(page: UnreadableBatch): Promise<void> {
    if (await this.#options.deadLetters.insertUnreadableBatch(page)) await this.#recordBatchRejected(page);
  }

  async #recordBatchRejected({ unit, messageId, reason, content }: UnreadableBatch): Promise<void> {
    const { decider, log } = this.#options;
    log.warn(`A batch of unit ${unit} is unreadable. It is stored as a dead letter for an operator.`, { unit, reason });
    await decider.decide(unit, 'log', { ...this.#meta(), commandId: messageId }, () => [
      { type: 'UnitBatchRejected', data: { reason, bytes: content.length } },
    ]);
  }

  /** Records a gap before `arrivedSeq`. @throws StoreUnavailableError */
  async recordGap(unit: string, epoch: string, arrivedSeq: number): Promise<void> {
    const { decider, log } = this.#options;
    const { appended } = await decider.decide(unit, 'log', this.#meta(), (state) =>
      detectGap(state, { epoch, arrivedSeq }),
    );
    if (appended)
      log.warn(
        `The log of unit ${unit} has a gap. The fetch worker requests the missing events while the unit is online.`,
        { unit, epoch, arrivedSeq },
      );
  }

  /**
   * Records that the missing events before `firstAvailableSeq` are lost, so that later events can be recorded. The caller has checked
   * that the unit no longer has them and that none of them is pending in `UNIT_INBOX`. @throws StoreUnavailableError
   */
  async recordLostRange(unit: string, epoch: string, firstAvailableSeq: number): Promise<void> {
    const { decider, log } = this.#options;
    const { state, appended } = await decider.decide(unit, 'log', this.#meta(), (current) =>
      closeLostGap(current, { epoch, firstAvailableSeq }),
    );
    if (appended) {
      log.error(
        `Unit ${unit} no longer has events that the platform did not record: it deleted them or began a new epoch. Recording continues after the lost range.`,
        {
          unit,
          epoch,
          ...state.log.lost[epoch],
          next: nextExpectedSeq(state.log, state.device, epoch),
        },
      );
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

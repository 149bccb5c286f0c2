/**
 * Records the events that units push or that the platform fetches. Only the recorder writes the subjects `device` and `log`.
 *
 * The recorded seq of a unit is part of the state folded from `device`. Optimistic concurrency keeps two writers from recording an
 * event twice: the later append fails, the decider folds the new commit, and the plan then skips the recorded events.
 */

import { recordedSeq } from '../../domain/device/epochs.ts';
import {
  closeFilledGaps,
  closeLostGap,
  detectGap,
  hasRoomForGap,
  MAX_OPEN_GAPS_PER_UNIT,
  nextExpectedSeq,
} from '../../domain/device/unit-log.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { Log } from '../observability/log.ts';
import type { DecisionMeta, UnitDecider } from '../units/unit-decider.ts';
import { type AppendPlan, type ParsedBatch, planAppend, RefusedBatchError } from './batch.ts';
import type { ClockOffsetCache } from './clock-offset-cache.ts';
import type { DeadLetterStore, UnreadableBatch } from './dead-letter-store.ts';
import type { UnitBudgets } from './unit-budgets.ts';

/** Epochs that a unit may begin: some at once, and one an hour after that. A unit that begins more is broken or means harm. */
export const NEW_EPOCHS_BUDGET = { burst: 20, perS: 1 / 3_600 };

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
  /** What units may still begin of new epochs, by `NEW_EPOCHS_BUDGET`. */
  readonly newEpochs: Pick<UnitBudgets, 'waitMs' | 'charge'>;
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
   * @throws RefusedBatchError when the epoch is too old, or the unit begins too many epochs
   */
  async recordBatch(batch: ParsedBatch, receivedAtMs: number): Promise<RecordedBatch> {
    const { decider, deadLetters, clockOffsets, newEpochs } = this.#options;
    const { unit, epoch } = batch;
    const clockOffsetMs = clockOffsets.get(unit);
    const storedRejections = new Set<number>();
    let isLatest = false;
    for (;;) {
      const last: { plan?: AppendPlan; beginsEpoch?: boolean } = {};
      const { state } = await decider.appendReported(unit, 'device', (current) => {
        last.beginsEpoch = current.device.epoch !== undefined && recordedSeq(current.device, epoch) === 0;
        if (last.beginsEpoch) this.#requireNewEpochBudget(unit);
        last.plan = planAppend(batch, current, { receivedAtMs, storedRejections, clockOffsetMs });
        return last.plan.events;
      });
      if (last.beginsEpoch === true && recordedSeq(state.device, epoch) > 0) newEpochs.charge(unit, 1);
      const { unstoredRejections, waitingFrom, isPart } = last.plan ?? EMPTY_PLAN;
      if (unstoredRejections.size > 0 && !isLatest) {
        // Another process may have registered a locker whose events this state would reject.
        await decider.getLatestState(unit);
        isLatest = true;
      } else if (unstoredRejections.size > 0) {
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

  #requireNewEpochBudget(unit: string): void {
    if (this.#options.newEpochs.waitMs(unit) === 0) return;
    throw new RefusedBatchError('the unit has begun too many epochs: its store was wiped again and again');
  }

  /** Stores an unreadable or refused batch as a dead letter and records `UnitBatchRejected`. @throws as `recordBatch` */
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
    log.warn(`A batch of unit ${unit} is rejected. It is stored as a dead letter for an operator.`, { unit, reason });
    await decider.decide(unit, 'log', { ...this.#meta(), commandId: messageId }, () => [
      { type: 'UnitBatchRejected', data: { reason, bytes: content.length } },
    ]);
  }

  /** Records a gap before `arrivedSeq`. @throws StoreUnavailableError, RefusedBatchError when the unit has too many gaps */
  async recordGap(unit: string, epoch: string, arrivedSeq: number): Promise<void> {
    const { decider, log } = this.#options;
    const { state, appended } = await decider.decide(unit, 'log', this.#meta(), (current) =>
      detectGap(current, { epoch, arrivedSeq }),
    );
    const isWaiting = arrivedSeq > nextExpectedSeq(state.log, state.device, epoch);
    if (isWaiting && !hasRoomForGap(state.log, epoch)) {
      throw new RefusedBatchError(`it waits for a gap, and the unit has ${MAX_OPEN_GAPS_PER_UNIT} others`);
    }
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

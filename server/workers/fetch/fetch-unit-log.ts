/**
 * Fetches the events of one unit after the last recorded one, page by page, and records lost ranges.
 *
 * Events are lost only when the unit has answered that it no longer has them, none of them is pending in `UNIT_INBOX`, and the state
 * that is read from the store after both checks does not contain them.
 */

import { recordedSeq } from '../../../domain/device/epochs.ts';
import { nextExpectedSeq } from '../../../domain/device/unit-log.ts';
import { type RegisteredUnit, requireUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { type ParsedBatch, RefusedBatchError } from '../../../platform/unit-log/batch.ts';
import type { UnitBudgets } from '../../../platform/unit-log/unit-budgets.ts';
import {
  type FetchedPage,
  type LogPosition,
  type UnitLogClient,
  UnreadablePageError,
} from '../../../platform/unit-log/unit-log-client.ts';
import type { RecordedBatch, UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import { formatPlace } from '../../../platform/unit-protocol/ping.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { firstPendingSeq, hasEarlierEpochStart, isFirstBatchOfEpoch, type UnitInbox } from '../ingest/unit-inbox.ts';

/** Pages that one call fetches. The next call continues with a longer backlog. */
export const MAX_PAGES_PER_FETCH = 40;

export interface FetchUnitLogOptions {
  readonly decider: UnitDecider;
  readonly recorder: UnitLogRecorder;
  readonly unitLogClient: Pick<UnitLogClient, 'fetchPage'>;
  readonly unitInbox: UnitInbox;
  /** What units may still have recorded, in events. */
  readonly events: Pick<UnitBudgets, 'waitMs' | 'charge'>;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/**
 * Fetches until the unit has nothing more or has used up its budget of events, or for `MAX_PAGES_PER_FETCH` pages.
 * @returns how many events were new
 * @throws UnitUnreachableError, UnreadablePageError, and what `UnitLogRecorder.recordBatch` throws
 */
export async function fetchUnitLog(unit: string, options: FetchUnitLogOptions): Promise<number> {
  const { decider, events } = options;
  let state = await decider.getState(unit);
  let fetched = 0;
  for (let page = 0; page < MAX_PAGES_PER_FETCH; page += 1) {
    if (events.waitMs(unit) > 0) return fetched;
    const registered = requireUnit(state.registry);
    const { batch, head } = await fetchNextPage(registered, state, options);
    if (await hasEarlierPendingEpoch(state, batch.epoch, options)) return fetched;
    if (!(await recordLostRanges(state, head, options))) return fetched;
    const before = recordedSeq(state.device, batch.epoch);
    const recorded = await recordPage(batch, lastContiguousPosition(state), options);
    if (recorded === undefined) return fetched;
    events.charge(unit, batch.events.length);
    state = recorded.state;
    const progress = recordedSeq(state.device, batch.epoch) - before;
    fetched += Math.max(0, progress);
    if (!head.more || progress <= 0) return fetched;
  }
  return fetched;
}

/** Fetches the next page. Stores an unreadable page as a dead letter, once for each position at which it was requested. */
async function fetchNextPage(
  unit: RegisteredUnit,
  state: UnitState,
  { unitLogClient, recorder, clock }: FetchUnitLogOptions,
): Promise<FetchedPage> {
  const after = lastContiguousPosition(state);
  try {
    return await unitLogClient.fetchPage(unit, after, recordedPosition(state));
  } catch (error) {
    if (!(error instanceof UnreadablePageError)) throw error;
    const { message: reason, content } = error;
    const messageId = pageId(unit.name, after);
    await recorder.recordUnreadablePage({ unit: unit.name, messageId, receivedAtMs: clock(), reason, content });
    throw error;
  }
}

/** Records a page. A page beyond the bounds of the unit's log is stored like an unreadable one, and `undefined` is returned. */
async function recordPage(
  batch: ParsedBatch,
  after: LogPosition | undefined,
  { recorder, clock }: FetchUnitLogOptions,
): Promise<RecordedBatch | undefined> {
  const { unit, epoch, events, textOf } = batch;
  try {
    return await recorder.recordBatch(batch, clock());
  } catch (error) {
    if (!(error instanceof RefusedBatchError)) throw error;
    const texts = events.map(({ index }) => textOf(index)).join(',');
    const content = new TextEncoder().encode(`{"unit":"${unit}","epoch":"${epoch}","events":[${texts}]}`);
    const page = { unit, messageId: pageId(unit, after), receivedAtMs: clock(), reason: error.message, content };
    await recorder.recordUnreadablePage(page);
    return undefined;
  }
}

/** The same at each fetch of a page, so that it is stored once. */
function pageId(unit: string, after: LogPosition | undefined): string {
  return `fetch-${unit}-${after === undefined ? 'start' : formatPlace(after)}`;
}

/** The position before the next event to fetch: all events up to it are recorded or lost. */
function lastContiguousPosition({ device, log }: UnitState): LogPosition | undefined {
  const { epoch } = device;
  return epoch === undefined ? undefined : { epoch, seq: nextExpectedSeq(log, device, epoch) - 1 };
}

function recordedPosition({ device }: UnitState): LogPosition | undefined {
  const { epoch } = device;
  return epoch === undefined ? undefined : { epoch, seq: recordedSeq(device, epoch) };
}

/** Whether `epoch` is new while the first batch of an earlier epoch is pending in the inbox, so that ingest must record that first. */
async function hasEarlierPendingEpoch(
  { name, device }: UnitState,
  epoch: string,
  { unitInbox: inbox }: FetchUnitLogOptions,
): Promise<boolean> {
  if (!isFirstBatchOfEpoch(device, epoch)) return false;
  return hasEarlierEpochStart(await inbox.listPendingBatches(name), device, {
    epoch,
    sequence: Number.POSITIVE_INFINITY,
  });
}

/** Records as lost what the unit no longer has. @returns false when some of these events are still pending in the inbox */
async function recordLostRanges(
  state: UnitState,
  { epoch, firstAvailableSeq }: { readonly epoch: string; readonly firstAvailableSeq: number },
  options: FetchUnitLogOptions,
): Promise<boolean> {
  const ends = new Map([[epoch, firstAvailableSeq]]);
  // A unit that began another epoch no longer has the events of an earlier one.
  for (const [earlier, gap] of Object.entries(state.log.gaps)) if (earlier !== epoch) ends.set(earlier, gap.toSeq + 1);
  for (const [lacking, end] of ends) {
    if (!(await recordLostUnlessPending(state, lacking, end, options))) return false;
  }
  return true;
}

async function recordLostUnlessPending(
  { name, log, device }: UnitState,
  epoch: string,
  endSeq: number,
  { decider, recorder, unitInbox: inbox }: FetchUnitLogOptions,
): Promise<boolean> {
  const fromSeq = nextExpectedSeq(log, device, epoch);
  if (endSeq <= fromSeq) return true;
  const waitingFrom = firstPendingSeq(await inbox.listPendingBatches(name), { epoch, fromSeq }) ?? endSeq;
  if (waitingFrom === fromSeq) return false;
  await decider.getLatestState(name);
  await recorder.recordLostRange(name, epoch, Math.min(waitingFrom, endSeq));
  return waitingFrom >= endSeq;
}

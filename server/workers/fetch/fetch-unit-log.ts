/**
 * Brings what follows on the last recorded event of one unit, page by page, and settles what the unit no longer has.
 *
 * Something is given up as lost only when the unit has said that it does not have it, nothing of it waits in `UNIT_INBOX`,
 * and, read from the store after both, it is not recorded either.
 */

import { recordedSeq } from '../../../domain/device/device.ts';
import { nextExpectedSeq } from '../../../domain/device/unit-log.ts';
import { type RegisteredUnit, requireUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import type { UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import { formatPlace } from '../../../platform/unit-protocol/ping.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { firstPendingSeq, hasEarlierEpochStart, isFirstBatchOfEpoch, type UnitInbox } from '../ingest/unit-inbox.ts';
import { type FetchedPage, type LogPosition, type UnitLogClient, UnreadablePageError } from './unit-log-client.ts';

/** Pages of one unit in one go; a longer backlog goes on in the next. */
export const MAX_PAGES_PER_FETCH = 40;

export interface FetchUnitLogOptions {
  readonly decider: UnitDecider;
  readonly recorder: UnitLogRecorder;
  readonly unitLogClient: Pick<UnitLogClient, 'fetchPage'>;
  readonly unitInbox: UnitInbox;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/**
 * Fetches until the unit has nothing more, or for `MAX_PAGES_PER_FETCH` pages. @returns how many events were new
 * @throws UnitUnreachableError, UnreadablePageError, and what `UnitLogRecorder.recordBatch` throws
 */
export async function fetchUnitLog(unit: string, options: FetchUnitLogOptions): Promise<number> {
  const { decider, recorder, clock } = options;
  let state = await decider.getState(unit);
  let fetched = 0;
  for (let page = 0; page < MAX_PAGES_PER_FETCH; page += 1) {
    const registered = requireUnit(state.registry);
    const { batch, head } = await fetchNextPage(registered, state, options);
    if (await hasEarlierPendingEpoch(state, batch.epoch, options)) return fetched;
    if (!(await recordLostRanges(state, head, options))) return fetched;
    const before = recordedSeq(state.device, batch.epoch);
    const recorded = await recorder.recordBatch(batch, clock());
    state = recorded.state;
    const progress = recordedSeq(state.device, batch.epoch) - before;
    fetched += Math.max(0, progress);
    if (!head.more || progress <= 0) return fetched;
  }
  return fetched;
}

/** The next page. One that cannot be read is kept, once for the place at which the log stands still. */
async function fetchNextPage(
  unit: RegisteredUnit,
  state: UnitState,
  { unitLogClient: reader, recorder, clock }: FetchUnitLogOptions,
): Promise<FetchedPage> {
  const after = lastContiguousPosition(state);
  try {
    return await reader.fetchPage(unit, after, recordedPosition(state));
  } catch (error) {
    if (!(error instanceof UnreadablePageError)) throw error;
    const { message: reason, content } = error;
    const messageId = `fetch-${unit.name}-${after === undefined ? 'start' : formatPlace(after)}`;
    await recorder.recordUnreadablePage({ unit: unit.name, messageId, receivedAtMs: clock(), reason, content });
    throw error;
  }
}

/** The place behind which the next event is wanted. */
function lastContiguousPosition({ device, log }: UnitState): LogPosition | undefined {
  const { epoch } = device;
  return epoch === undefined ? undefined : { epoch, seq: nextExpectedSeq(log, device, epoch) - 1 };
}

function recordedPosition({ device }: UnitState): LogPosition | undefined {
  const { epoch } = device;
  return epoch === undefined ? undefined : { epoch, seq: recordedSeq(device, epoch) };
}

/** Whether the unit has begun an epoch, and one that began earlier still waits in the inbox: that one comes first. */
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

/** Gives up what the unit no longer has. @returns false when something of it is still on the way */
async function recordLostRanges(
  state: UnitState,
  { epoch, firstAvailableSeq }: { readonly epoch: string; readonly firstAvailableSeq: number },
  options: FetchUnitLogOptions,
): Promise<boolean> {
  const ends = new Map([[epoch, firstAvailableSeq]]);
  // The unit has begun another epoch: what an earlier one lacks, it does not have any more.
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

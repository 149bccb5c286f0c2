/**
 * Applies the waiting commits of a parked unit and unparks it, while the lane of the unit goes on.
 *
 * How it works. A step reads a page of the unit's commits outside of any transaction. Commits that the lane has passed are applied
 * in one transaction that also moves the position of the parked unit. When nothing or little waits, the last step hands the unit
 * over: it locks the lane, applies what the lane has passed by then, and unparks the unit. The process that fills the lane goes on
 * with the next commit.
 *
 * What holds. Each step moves the position only from exactly the value that was read, so of two processes that retry a unit, one
 * fails and applies nothing. A handover knows every commit of the unit up to the locked position: the leader of the store has
 * confirmed the end of the tail, and what the lane passed since then is read from the leader.
 */

import { laneOf } from '../../../domain/shard.ts';
import { type EventStore, type StoredMessage, StoreUnavailableError } from '../../../platform/event-store/store.ts';
import type { Postgres, Tx } from '../../../platform/postgres/connection.ts';
import { abortableSleep } from '../abortable-sleep.ts';
import { FencedError } from '../checkpoints/checkpoints.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import type { Projection } from '../projection.ts';
import type { Run } from '../runs/runs.ts';
import { applyUnitByUnit, type Poison, park } from './parking.ts';

/** Bounds of the commits that one transaction applies. */
const CHUNK_MESSAGES = 100;
const CHUNK_BYTES = 1024 * 1024;
/** Longest time for which a read of the store may search for the next commits of a unit. */
const READ_TIMEOUT_MS = 30_000;
/** Bound of the commits that are applied while the lane is locked. */
const HANDOVER_MESSAGES = 16;
/** Longest time for which the store is read while the lane is locked. */
const HANDOVER_READ_TIMEOUT_MS = 500;

export interface CatchUpContext {
  /** Ends the reads of the store when the process stops. */
  readonly signal: AbortSignal;
  readonly postgres: Postgres;
  readonly store: EventStore;
  readonly projection: Projection;
  readonly run: Run;
}

/** What one step did. Events that wait behind `position` need another step. */
export type CatchUpStep =
  | { readonly kind: 'moved'; readonly position: number; readonly events: number }
  | { readonly kind: 'unparked'; readonly events: number }
  | { readonly kind: 'poison'; readonly poison: Poison };

/**
 * Makes one step.
 *
 * @param position from which on the commits of the unit wait
 * @throws FencedError when another process moved the unit; StoreUnavailableError; PostgresUnavailableError
 */
export async function catchUpStep(context: CatchUpContext, unit: string, position: number): Promise<CatchUpStep> {
  const { page, confirmedTo } = await readWaiting(context, unit, position);
  const passed = await lanePosition(context.postgres, context.run, unit);
  const due = page.filter(({ sequence }) => sequence <= passed);
  const hasMore = due.length === page.length && confirmedTo === undefined;
  const isLong = due.length > HANDOVER_MESSAGES || (due.length > 0 && hasMore);
  return isLong
    ? applyChunk(context, unit, position, due)
    : handOver(context, unit, position, page, confirmedTo ?? page.at(-1)?.sequence ?? position - 1);
}

interface Waiting {
  readonly page: readonly StoredMessage[];
  /** The unit has no other commit than those of the page up to this sequence; undefined when the tail is longer than the page. */
  readonly confirmedTo: number | undefined;
}

async function readWaiting(context: CatchUpContext, unit: string, position: number): Promise<Waiting> {
  const { store } = context;
  const read = async (): Promise<Waiting> => {
    const bounds = { messages: CHUNK_MESSAGES, bytes: CHUNK_BYTES, timeoutMs: READ_TIMEOUT_MS };
    const page = await store.tailPage(unit, position - 1, bounds);
    const end = await store.lastSequence();
    const last = await store.lastSequenceOf(unit);
    if (last <= (page.at(-1)?.sequence ?? position - 1)) return { page, confirmedTo: end };
    // The replica that answered lags, and has none of the commits that wait.
    if (page.length === 0)
      return { page: await store.tailFromLeader(unit, position - 1, HANDOVER_MESSAGES), confirmedTo: undefined };
    return { page, confirmedTo: undefined };
  };
  return withinTime(context, READ_TIMEOUT_MS, read());
}

async function lanePosition({ sql }: Postgres, run: Run, unit: string): Promise<number> {
  const [lane] = await sql<{ position: number }[]>`
    select position from platform.projection_checkpoints where run_id = ${run.id} and lane = ${laneOf(unit)}`;
  return lane?.position ?? 0;
}

/** Applies commits that the lane has passed. The lane goes on meanwhile, and skips the unit. */
function applyChunk(
  context: CatchUpContext,
  unit: string,
  position: number,
  messages: readonly StoredMessage[],
): Promise<CatchUpStep> {
  return context.postgres.transaction(async (tx) => {
    await lockParked(tx, context.run, unit, position);
    return applyMessages(tx, context, unit, position, messages);
  });
}

/** Locks the lane, applies what it has passed, and unparks the unit. @param knownTo no commit up to there is missing in the page */
function handOver(
  context: CatchUpContext,
  unit: string,
  position: number,
  page: readonly StoredMessage[],
  knownTo: number,
): Promise<CatchUpStep> {
  const { postgres, store, run } = context;
  return postgres.transaction(async (tx) => {
    // The lane comes before the parked unit, as in the transactions that fill the lane.
    const [lane] = await tx<{ position: number }[]>`
      select position from platform.projection_checkpoints
      where run_id = ${run.id} and lane = ${laneOf(unit)} for update`;
    if (lane === undefined) throw new FencedError(`run ${run.id} has ended`);
    await lockParked(tx, run, unit, position);
    const since =
      lane.position > knownTo
        ? await withinTime(context, HANDOVER_READ_TIMEOUT_MS, store.tailFromLeader(unit, knownTo, HANDOVER_MESSAGES))
        : [];
    const messages = [...page, ...since].filter(({ sequence }) => sequence <= lane.position);
    const applied = await applyMessages(tx, context, unit, position, messages);
    const last = since.at(-1)?.sequence ?? 0;
    const mayHaveMore = since.length >= HANDOVER_MESSAGES && last <= lane.position;
    if (applied.kind !== 'moved' || mayHaveMore) return applied;
    await tx`delete from platform.projection_parked where run_id = ${run.id} and unit = ${unit}`;
    return { kind: 'unparked', events: applied.events };
  });
}

/** Locks the row of a parked unit. The lane may pass commits of the unit meanwhile. @throws FencedError */
async function lockParked(tx: Tx, run: Run, unit: string, position: number): Promise<void> {
  const parked = await tx`
    select 1 from platform.projection_parked p join platform.projection_runs r on r.id = p.run_id
    where p.run_id = ${run.id} and p.unit = ${unit} and p.position = ${position} and r.status in ('building', 'serving')
    for no key update of p`;
  if (parked.length === 0)
    throw new FencedError(`another process has retried unit ${unit}, or run ${run.id} has ended`);
}

/** Applies messages in order and moves the position behind them. Messages that are no commits were logged when the lane passed them. */
async function applyMessages(
  tx: Tx,
  { projection, run }: CatchUpContext,
  unit: string,
  position: number,
  messages: readonly StoredMessage[],
): Promise<Extract<CatchUpStep, { kind: 'moved' | 'poison' }>> {
  const commits = messages.flatMap((message) => parseCommit(message, () => undefined) ?? []);
  const [poison] = commits.length > 0 ? await applyUnitByUnit(tx, projection, run.schema, commits) : [];
  if (poison !== undefined) {
    await park(tx, run.id, poison);
    return { kind: 'poison', poison };
  }
  const next = (messages.at(-1)?.sequence ?? position - 1) + 1;
  await tx`update platform.projection_parked set position = ${next} where run_id = ${run.id} and unit = ${unit}`;
  return { kind: 'moved', position: next, events: commits.reduce((sum, { events }) => sum + events.length, 0) };
}

/** @throws StoreUnavailableError when the store does not answer in time, or the process stops */
async function withinTime<T>({ signal }: CatchUpContext, timeoutMs: number, read: Promise<T>): Promise<T> {
  const answered = new AbortController();
  const isLate = abortableSleep(AbortSignal.any([signal, answered.signal]), timeoutMs).then((): never => {
    throw new StoreUnavailableError(`The event store did not answer within ${timeoutMs} ms, or the process stops.`);
  });
  try {
    return await Promise.race([read, isLate]);
  } finally {
    // Of the read and the timer, the later one ends when nothing waits for it.
    for (const late of [read, isLate]) late.catch(() => undefined);
    answered.abort();
  }
}

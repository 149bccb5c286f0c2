/**
 * The fetch worker: asks units for what they have not told, when their turn comes or when their log stands still.
 *
 * Which units those are comes from the read model, which may lag; what is recorded is folded from the store before a unit is
 * asked. Asking twice, or in two processes, costs a request and records nothing twice.
 */

import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-commands.ts';
import { fetchLog, type LogFetchOptions } from './log-fetch.ts';
import { FetchPlan, type FetchTarget, type Why } from './plan.ts';

/** Units are dealt between processes by shards of so many letters. */
export const FETCH_SHARD_LETTERS = 2;
/** Units that are asked at once. */
export const MAX_FETCHES_UNDER_WAY = 32;
/** Pause between two looks at the read model. A look that takes long makes it longer, so that little time goes into looking. */
const LOOK_INTERVAL_MS = 1_000;
const LOOK_DUTY = 10;
/** Units in one page of the read model. */
export const MAX_TARGETS_PER_PAGE = 1_000;

export interface FetchOptions extends LogFetchOptions {
  /** Units that may have to be asked, after a name and in order; fewer than `limit` are the last. */
  readonly targets: (afterName: string | undefined, limit: number) => Promise<readonly FetchTarget[]>;
  /** Whether this process asks that unit. */
  readonly owns: (unit: string) => boolean;
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it and what is under way is done. */
export async function fetchLogs(options: FetchOptions): Promise<void> {
  const { intervalMs, signal, sleep, clock, log } = options;
  const plan = new FetchPlan(intervalMs);
  const underWay = new Map<string, Promise<void>>();
  let failing = false;
  while (!signal.aborted) {
    const startedMs = clock();
    try {
      const due = plan.due(await ownTargets(options), clock());
      for (const { name, why } of due) {
        if (signal.aborted) break;
        if (underWay.has(name)) continue;
        if (underWay.size >= MAX_FETCHES_UNDER_WAY) await Promise.race(underWay.values());
        plan.asked(name, clock());
        underWay.set(
          name,
          ask(name, why, plan, options).finally(() => underWay.delete(name)),
        );
      }
      failing = false;
    } catch (error) {
      if (!failing) log.warn('cannot see which units to fetch from', { reason: errorMessage(error) });
      failing = true;
    }
    await sleep(Math.max(LOOK_INTERVAL_MS, (clock() - startedMs) * LOOK_DUTY));
  }
  await Promise.all(underWay.values());
}

async function ownTargets({ targets, owns }: FetchOptions): Promise<FetchTarget[]> {
  const own: FetchTarget[] = [];
  for (let after: string | undefined; ; ) {
    const page = await targets(after, MAX_TARGETS_PER_PAGE);
    for (const target of page) if (owns(target.name)) own.push(target);
    after = page.at(-1)?.name;
    if (page.length < MAX_TARGETS_PER_PAGE) return own;
  }
}

/** Never rejects. */
async function ask(unit: string, why: Why, plan: FetchPlan, options: FetchOptions): Promise<void> {
  const { inbox, clock, log } = options;
  try {
    // What it pushed waits for ingest: it need not be told twice.
    if (why === 'behind' && (await inbox.waiting(unit)).length > 0) return;
    const events = await fetchLog(unit, options);
    plan.answered(unit);
    if (events > 0 || why === 'tell') plan.told(unit, clock());
    log.debug('fetched', { unit, why, events });
  } catch (error) {
    const expected = error instanceof UnitUnreachableError;
    log[expected ? 'debug' : 'warn']('a unit’s log could not be fetched', { unit, why, reason: errorMessage(error) });
  }
}

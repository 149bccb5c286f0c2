/** `./run projections parked NAME` and `retry NAME UNIT`. */

import { parkedUnit, parkedUnits, requestRetry } from '../engine/queries/parked.ts';
import { FAILED, type OperationContext, SUCCEEDED } from './operation.ts';

const POLL_INTERVAL_MS = 200;
const RETRY_TIMEOUT_MS = 15_000;
const PAGE_UNITS = 500;

/** Lists the parked units of a read model. @returns the exit status: 1 when a unit is parked */
export async function listParked(name: string, { postgres, output }: OperationContext): Promise<number> {
  let cursor: string | null = null;
  let units = 0;
  do {
    const page: Awaited<ReturnType<typeof parkedUnits>> = await parkedUnits(postgres.sql, name, {
      limit: PAGE_UNITS,
      ...(cursor === null ? {} : { cursor }),
    });
    for (const { unit, position, since, reason } of page.items)
      output.write(`${unit}  parked since ${since} at position ${position}: ${reason}\n`);
    units += page.items.length;
    cursor = page.nextCursor;
  } while (cursor !== null);
  if (units === 0) output.write(`${name}: no unit is parked.\n`);
  return units === 0 ? SUCCEEDED : FAILED;
}

/** Requests the retry of a parked unit and waits for its outcome. @returns the exit status: 1 when the unit stays parked */
export async function retry(name: string, unit: string, context: OperationContext): Promise<number> {
  const { postgres, output, clock, sleep, interrupted } = context;
  const print = (text: string) => output.write(`${name}: ${text}\n`);
  const before = await parkedUnit(postgres.sql, name, unit);
  if (before === undefined || !(await requestRetry(postgres.sql, name, unit))) {
    print(`unit ${unit} is not parked.`);
    return FAILED;
  }
  const deadlineMs = clock() + RETRY_TIMEOUT_MS;
  while (!interrupted.aborted && clock() < deadlineMs) {
    const now = await parkedUnit(postgres.sql, name, unit);
    if (now === undefined) {
      print(`unit ${unit} is unparked; its waiting events are applied.`);
      return SUCCEEDED;
    }
    if (now.retries > before.retries) {
      print(`unit ${unit} stays parked at position ${now.position}: ${now.reason}`);
      return FAILED;
    }
    await sleep(POLL_INTERVAL_MS);
  }
  const last = await parkedUnit(postgres.sql, name, unit);
  if (last?.retryRequestedAt != null)
    print(
      `the retry of unit ${unit} is requested, but no projections process has begun it. Check that one is running.`,
    );
  else if (last?.retryFault != null)
    print(`the retry of unit ${unit} could not be made: ${last.retryFault} It is repeated at ${last.nextRetryAt}.`);
  else print(`the retry of unit ${unit} still runs and goes on; its events before ${last?.position} are applied.`);
  return FAILED;
}

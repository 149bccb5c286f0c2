/** `./run projections parked NAME` and `retry NAME UNIT`. */

import { parkedUnit, parkedUnits, requestRetry } from '../engine/queries/parked.ts';
import type { OperationContext } from './rebuild.ts';

const POLL_INTERVAL_MS = 200;
const TRIED_WITHIN_MS = 15_000;
const PAGE_UNITS = 500;

/** Lists the parked units of a projection. @returns the exit status: 1 when there are some */
export async function listParked(projection: string, { postgres, output }: OperationContext): Promise<number> {
  let cursor: string | null = null;
  let units = 0;
  do {
    const page: Awaited<ReturnType<typeof parkedUnits>> = await parkedUnits(postgres.sql, projection, {
      limit: PAGE_UNITS,
      ...(cursor === null ? {} : { cursor }),
    });
    for (const { unit, position, since, reason } of page.items)
      output.write(`${unit}  at ${position}  since ${since}  ${reason}\n`);
    units += page.items.length;
    cursor = page.nextCursor;
  } while (cursor !== null);
  if (units === 0) output.write(`no unit is parked in ${projection}\n`);
  return units === 0 ? 0 : 1;
}

/** Has a parked unit tried again, and waits for what comes of it. @returns the exit status: 1 when it stays parked */
export async function retry(projection: string, unit: string, operation: OperationContext): Promise<number> {
  const { postgres, output, clock, sleep, interrupted } = operation;
  const say = (text: string) => output.write(`${text}\n`);
  const before = await parkedUnit(postgres.sql, projection, unit);
  if (before === undefined || !(await requestRetry(postgres.sql, projection, unit))) {
    say(`${unit} is not parked in ${projection}`);
    return 1;
  }
  const untilMs = clock() + TRIED_WITHIN_MS;
  while (!interrupted.aborted && clock() < untilMs) {
    const now = await parkedUnit(postgres.sql, projection, unit);
    if (now === undefined) {
      say(`${unit} is taken up: all that waited is applied`);
      return 0;
    }
    if (now.retries > before.retries) {
      say(`${unit} stays parked, at ${now.position}: ${now.reason}`);
      return 1;
    }
    await sleep(POLL_INTERVAL_MS);
  }
  say('the try is noted, but no projections process has made it yet: does one run?');
  return 1;
}

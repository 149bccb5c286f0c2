/** What the log of a unit looks like from outside, for the tests that prove that it is whole. */

import { expect } from 'bun:test';
import { type Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';

export interface RecordedEvent {
  readonly position: string;
  readonly recordedAt: string;
  readonly id: string;
  readonly type: string;
  readonly subject: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly offline?: boolean;
  readonly unitepoch?: string;
  readonly unitseq?: number;
}

export interface UnitDetail {
  readonly state: string;
  readonly backlog: number;
  readonly log: { readonly epoch: string; readonly recordedSeq: number } | null;
  readonly gaps: readonly object[];
  readonly lost: readonly object[];
  readonly lockerDetails: readonly { id: string; door: string; rental: { rentalId: string } | null }[];
}

/** Everything in the log of the platform about a unit, the oldest first. */
export async function eventsOf(ops: Client, unit: string, type?: string): Promise<RecordedEvent[]> {
  const events: Record<string, unknown>[] = [];
  for (let cursor: string | undefined; ; ) {
    const query = { unit, limit: '500', ...(type === undefined ? {} : { type }), ...(cursor ? { cursor } : {}) };
    const page = await ops.get(`/v1/events?${new URLSearchParams(query)}`);
    expect(page.status).toBe(200);
    events.push(...items(page));
    if (page.body.nextCursor === null) return events.reverse() as unknown as RecordedEvent[];
    cursor = String(page.body.nextCursor);
  }
}

/** What a unit reported in an epoch, as the platform has it, in the order in which it was recorded. */
export function reportedIn(events: readonly RecordedEvent[], epoch: string): RecordedEvent[] {
  return events.filter(({ unitepoch }) => unitepoch === epoch);
}

/** Waits until `lastSeq` is in the log, and expects each event of its epoch once, in order, from the first on. @returns them */
export async function expectWhole(
  ops: Client,
  unit: string,
  { epoch, lastSeq }: { readonly epoch: string; readonly lastSeq: number },
): Promise<RecordedEvent[]> {
  // What is shown of the unit and what is shown of the log are two read models.
  const reported = await eventually(async () => {
    const shown = reportedIn(await eventsOf(ops, unit), epoch);
    return shown.some(({ unitseq }) => unitseq === lastSeq) && shown;
  });
  expect(reported.map(({ unitseq }) => unitseq)).toEqual(Array.from({ length: lastSeq }, (_, index) => index + 1));
  return reported;
}

export async function detailOf(ops: Client, unit: string): Promise<UnitDetail> {
  const { status, body } = await ops.get(`/v1/units/${unit}`);
  expect(status).toBe(200);
  return body as unknown as UnitDetail;
}

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { Postgres, type Tx } from '../../platform/postgres/connection.ts';
import { ensureMonths } from '../../projections/event_log/months.ts';
import {
  countEvents,
  type EventFilter,
  type EventKey,
  type EventSort,
  keyOf,
  type PageQuery,
  planScan,
  readPage,
} from '../../projections/event_log/pages.ts';
import { eventLog } from '../../projections/event_log/projection.ts';
import { PAGE_SETTINGS } from '../../projections/event_log/queries/events.ts';
import { fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { testPostgres } from '../support/services.ts';

const DAY_MS = 24 * 60 * 60_000;
const START_MS = Date.parse('2025-11-03T00:00:00.000Z');
const MONTHS = 6;
const EVENTS = 60_000;
const UNITS = 6;
const SORTS: readonly EventSort[] = ['position', '-position', 'time', '-time'];
/** What a page of 50 may look at in each month where the index is entered: itself, and what tells that it ends. */
const PAGE = 50;

interface Made {
  readonly sequence: number;
  readonly index: number;
  readonly unit: string;
  readonly locker: string | null;
  readonly type: string;
  readonly actor: string | null;
  readonly correlation: string | null;
  readonly timeMs: number;
  readonly recordedAtMs: number;
}

const random = seededRandom();
let postgres: Postgres;
let reader: Postgres;
let schema: string;
let made: Made[];

beforeAll(async () => {
  postgres = await freshPostgres();
  await fillToTheEnd(postgres, new MemoryEventStore(() => START_MS), { projections: [eventLog] });
  reader = new Postgres({ url: await databaseOf(postgres), applicationName: 'pages', settings: PAGE_SETTINGS });
  schema = (await readModelsOf(postgres).servingRuns.find('event_log')).schema;
  made = Array.from({ length: EVENTS }, (_, n) => someEvent(n));
  await postgres.transaction(async (tx) => {
    await ensureMonths(tx, schema, new Set(made.map(({ recordedAtMs }) => recordedAtMs)));
    for (let from = 0; from < EVENTS; from += 10_000) await insert(tx, made.slice(from, from + 10_000));
  });
}, 60_000);

afterAll(() => Promise.all([postgres.close(1), reader.close(1)]));

async function databaseOf({ sql }: Postgres): Promise<string> {
  const [row] = await sql<{ name: string }[]>`select current_database() as name`;
  return Object.assign(new URL((await testPostgres()).url), { pathname: `/${row?.name}` }).toString();
}

/** Two events a commit; one in 500 of a rare type, one in ten late by up to 20 days, a few far too late or too early. */
function someEvent(n: number): Made {
  const recordedAtMs = START_MS + Math.floor((Math.floor(n / 2) / (EVENTS / 2)) * MONTHS * 30 * DAY_MS);
  const unit = `PL-${1000 + random.below(UNITS)}`;
  const isLate = random.below(10) === 0;
  const byUnit = random.below(3) > 0;
  return {
    sequence: 1 + Math.floor(n / 2),
    index: n % 2,
    unit,
    locker: random.below(3) === 0 ? null : random.pick(['A', 'B', 'C']),
    type: random.below(500) === 0 ? 'Rare' : random.pick(['LockerOpened', 'LockerClosed', 'RentalStarted']),
    actor: byUnit ? `unit:${unit}` : random.pick(['ops:alice', 'customer:1', 'platform:reactor']),
    correlation: random.below(200) === 0 ? `c${random.below(20)}` : null,
    timeMs: recordedAtMs - (isLate ? random.below(20 * DAY_MS) : random.below(1_000)),
    recordedAtMs,
  };
}

async function insert(tx: Tx, rows: readonly Made[]): Promise<void> {
  const column = <T>(value: (row: Made) => T): T[] => rows.map(value);
  await tx`
    insert into ${tx(`${schema}.event`)}
      (sequence, index, unit, locker, type, actor, correlation, time, recorded_at, event)
    select *, '{}' from unnest(
      ${column(({ sequence }) => sequence)}::bigint[], ${column(({ index }) => index)}::smallint[],
      ${column(({ unit }) => unit)}::text[], ${column(({ locker }) => locker)}::text[],
      ${column(({ type }) => type)}::text[], ${column(({ actor }) => actor)}::text[],
      ${column(({ correlation }) => correlation)}::text[],
      ${column(({ timeMs }) => toInstant(timeMs))}::timestamptz[],
      ${column(({ recordedAtMs }) => toInstant(recordedAtMs))}::timestamptz[])`;
}

/** The same by going through all of them. */
function expected(filter: EventFilter, sort: EventSort): Made[] {
  const types = filter.type === undefined ? undefined : [filter.type].flat();
  const matching = made.filter(
    (event) =>
      (filter.unit === undefined || event.unit === filter.unit) &&
      (filter.locker === undefined || event.locker === filter.locker) &&
      (types === undefined || types.includes(event.type)) &&
      (filter.actor === undefined || event.actor === filter.actor) &&
      (filter.correlation === undefined || event.correlation === filter.correlation) &&
      (filter.from === undefined || event.timeMs >= Date.parse(filter.from)) &&
      (filter.until === undefined || event.timeMs < Date.parse(filter.until)),
  );
  const position = (event: Made) => event.sequence * 10 + event.index;
  const ascending = matching.toSorted(
    (a, b) => (sort.includes('time') ? a.timeMs - b.timeMs : 0) || position(a) - position(b),
  );
  return sort.startsWith('-') ? ascending.toReversed() : ascending;
}

async function allPages(query: Omit<PageQuery, 'after'>): Promise<EventKey[]> {
  const keys: EventKey[] = [];
  let after: EventKey | undefined;
  do {
    const page = await readPage(reader.sql, schema, { ...query, after });
    expect(page.rows.length).toBeLessThanOrEqual(query.limit);
    keys.push(...page.rows.map(keyOf));
    after = page.next;
  } while (after !== undefined);
  return keys;
}

function someFilter(): EventFilter {
  const fromMs = START_MS + random.below(MONTHS * 30 * DAY_MS);
  const sometimes = <K extends keyof EventFilter>(chances: number, name: K, value: EventFilter[K]) =>
    random.below(chances) === 0 ? { [name]: value } : {};
  return {
    ...sometimes(3, 'unit', `PL-${1000 + random.below(UNITS)}`),
    ...sometimes(4, 'locker', random.pick(['A', 'B', 'nowhere'])),
    ...sometimes(
      3,
      'type',
      random.pick<string | string[]>(['Rare', ['Rare', 'LockerOpened'], ['Rare', 'Never', 'Rare']]),
    ),
    ...sometimes(4, 'actor', random.pick(['ops:alice', 'unit:PL-1003', 'nobody'])),
    ...sometimes(6, 'correlation', `c${random.below(22)}`),
    ...sometimes(3, 'from', toInstant(fromMs)),
    ...sometimes(3, 'until', toInstant(fromMs + random.below(60 * DAY_MS))),
  };
}

describe('pages', () => {
  test('of any filter and order contain exactly the matching events, for any scan limit of a page', async () => {
    for (let round = 0; round < 120; round++) {
      const filter = someFilter();
      const sort = SORTS[round % SORTS.length] ?? 'time';
      const matching = expected(filter, sort).map(({ timeMs, sequence, index }) => ({ timeMs, sequence, index }));
      const limit = Math.max(3, Math.ceil(matching.length / 12));
      const maxExamined = round % 3 === 0 ? 20_000 : 1_500;
      expect([filter, sort, await allPages({ filter, sort, limit, maxExamined })]).toEqual([filter, sort, matching]);
      const { total, isLowerBound } = await countEvents(postgres.sql, schema, filter);
      expect([total, isLowerBound]).toEqual([matching.length, false]);
    }
  }, 60_000);

  test('end at the event at which the export began', async () => {
    const upTo = 1_000;
    for (const sort of SORTS) {
      const keys = await allPages({ filter: { type: 'LockerOpened' }, sort, limit: 90, upTo });
      const matching = expected({ type: 'LockerOpened' }, sort).filter(({ sequence }) => sequence <= upTo);
      expect(keys.map(({ sequence, index }) => [sequence, index])).toEqual(
        matching.map(({ sequence, index }) => [sequence, index]),
      );
    }
  });
});

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Shared Hit Blocks': number;
  readonly 'Shared Read Blocks': number;
  readonly Plans?: readonly PlanNode[];
}

async function explained(query: PageQuery): Promise<PlanNode> {
  const { page } = planScan(reader.sql, schema, query);
  const [row] = await reader.sql<{ plan: [{ Plan: PlanNode }] }[]>`
    explain (analyze, buffers, format json) ${page}`;
  const plan = row === undefined ? undefined : Object.values(row)[0];
  const [{ Plan }] = (typeof plan === 'string' ? JSON.parse(plan) : plan) as [{ Plan: PlanNode }];
  return Plan;
}

function nodesOf(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)];
}

/** Rows that were read from the table, shown or not. */
function examined(node: PlanNode): number {
  const scans = nodesOf(node).filter((one) => one['Node Type'].includes('Scan') && one.Plans === undefined);
  return scans.reduce(
    (sum, one) => sum + (one['Actual Rows'] + (one['Rows Removed by Filter'] ?? 0)) * one['Actual Loops'],
    0,
  );
}

describe.each(['without statistics', 'analyzed'])('the plan of a page, %s', (when) => {
  beforeAll(async () => {
    if (when === 'analyzed') await postgres.sql.script(`analyze "${schema}".event`);
  });

  const filters: readonly [string, EventFilter][] = [
    ['nothing', {}],
    ['a unit', { unit: 'PL-1007' }],
    ['a type', { type: 'LockerOpened' }],
    ['a rare type', { type: 'Rare' }],
    ['types', { type: ['LockerOpened', 'Rare', 'Never'] }],
    ['an actor', { actor: 'ops:alice' }],
    ['a unit as actor', { actor: 'unit:PL-1007' }],
    ['a correlation', { correlation: 'c7' }],
    ['a unit and a type', { unit: 'PL-1007', type: 'LockerOpened' }],
  ];
  for (const [name, filter] of filters) {
    test.each(SORTS)(`for ${name} by %s sorts nothing, and reads no more at depth`, async (sort) => {
      const matching = expected(filter, sort);
      for (const depth of [0, 0.5, 0.95]) {
        const at = matching[Math.floor(matching.length * depth) - 1];
        const plan = await explained({ filter, sort, limit: PAGE, after: depth === 0 ? undefined : at });
        expect(nodesOf(plan).filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
        // At most what one part of the union reads for a page is put in order, never what the filter matches.
        const branches = [filter.type ?? []].flat().length || 1;
        for (const node of nodesOf(plan).filter((one) => one['Node Type'].includes('Sort'))) {
          expect(node.Plans?.[0]?.['Actual Rows'] ?? 0).toBeLessThanOrEqual((PAGE + 1) * branches);
        }
        // Each month gives one row ahead of the merge; what is checked row by row lets a third through.
        expect(examined(plan)).toBeLessThanOrEqual(6 * (PAGE + 1 + MONTHS + 1) * branches);
      }
    });
  }

  test('for a period leaves out the months before it', async () => {
    const from = toInstant(START_MS + 120 * DAY_MS);
    const months = (plan: PlanNode) => nodesOf(plan).filter((node) => /Index.*Scan/.test(node['Node Type'])).length;
    const whole = await explained({ filter: {}, sort: '-time', limit: PAGE });
    const part = await explained({ filter: { from }, sort: '-time', limit: PAGE });
    expect(months(part)).toBeLessThan(months(whole) - 2);
  });

  test('for a filter that matches next to nothing is bounded', async () => {
    const filter = { locker: 'nowhere' };
    const plan = await explained({ filter, sort: '-position', limit: PAGE, maxExamined: 2_000 });
    expect(examined(plan)).toBeLessThanOrEqual(2_000 + MONTHS + 1);
  });
});

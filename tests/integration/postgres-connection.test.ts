import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Postgres, PostgresUnavailableError } from '../../platform/postgres/connection.ts';
import { loadMigrations, MigrationChangedError, migrate } from '../../platform/postgres/migrations.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import { freshDatabase } from '../support/services.ts';
import { silentLog } from '../support/silent-log.ts';

const open: Postgres[] = [];
let url: string;

beforeAll(async () => {
  url = await freshDatabase();
}, 60_000);
afterAll(() => Promise.all(open.map((postgres) => postgres.close(1))));

function connect(database = url, maxConnections = 4): Postgres {
  const postgres = new Postgres({ url: database, applicationName: 'connection under test', maxConnections });
  open.push(postgres);
  return postgres;
}

/** The URL of the database, at the address of a proxy. */
function throughProxy(proxy: FaultProxy): string {
  const through = new URL(url);
  through.host = new URL(proxy.url).host;
  return through.href;
}

describe('Postgres values', () => {
  test('are read as they were written', async () => {
    const { sql } = connect();
    const texts = [
      'a',
      'with "quotes", {braces} and \\',
      '',
      null,
      'NULL',
      'ü€😀',
      'line\nbreak',
      '\u0001\u007f\u2028',
      '{"a":"\\n\\u0000"}',
    ];
    const flags = [null, true, false];
    const rows = await sql<{ text: string | null }[]>`
      select text from unnest(${texts}::text[]) with ordinality as t(text, n) order by n`;
    expect(rows.map(({ text }) => text)).toEqual(texts);
    const [row] = await sql`
      select ${9_007_199_254_740_991}::bigint as big, count(*) as count, ${new Date(5)}::timestamptz as at,
        to_json(${flags}::boolean[]) as flags, to_json(${[1.5, null]}::float8[]) as floats, ${sql.json({ a: [1] })}::jsonb as json,
        to_json(${[]}::text[]) as none
      from generate_series(1, 3)`;
    expect(row).toEqual({
      big: 9_007_199_254_740_991,
      count: 3,
      at: new Date(5),
      flags,
      floats: [1.5, null],
      json: { a: [1] },
      none: [],
    });
  });

  test('a number that does not fit is an error, and a NUL in a text is replaced', async () => {
    const { sql } = connect();
    await expect(sql`select 9007199254740993 as big`).rejects.toBeInstanceOf(RangeError);
    expect([...(await sql`select ${'a\0b'}::text as one, to_json(${['a\0b']}::text[]) as many`)]).toEqual([
      { one: 'a\uFFFDb', many: ['a\uFFFDb'] },
    ]);
  });

  test('a query is composed of parts', async () => {
    const { sql } = connect();
    const condition = sql.part`n > ${1} ${sql.part`and n < ${4}`}`;
    const rows = await sql<{ n: number }[]>`select n from generate_series(1, 5) as n where ${condition}`;
    expect([...rows]).toEqual([{ n: 2 }, { n: 3 }]);
    expect(rows.count).toBe(2);
  });
});

describe('transactions', () => {
  test('are committed completely or not at all', async () => {
    const postgres = connect();
    await postgres.sql.script('create table whole (n int primary key)');
    await postgres.transaction(async (tx) => {
      await tx`insert into whole values (1)`;
      await expect(tx.savepoint(() => tx`insert into whole values (1)`)).rejects.toThrow(/duplicate/);
      await tx`insert into whole values (2)`;
    });
    const failing = postgres.transaction(async (tx) => {
      await tx`insert into whole values (3)`;
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect((await postgres.sql`select n from whole order by n`).map(({ n }) => n)).toEqual([1, 2]);
  });

  test('wait for a connection when all are in use', async () => {
    const postgres = connect(url, 2);
    const values = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        postgres.transaction(async (tx) => (await tx<{ n: number }[]>`select ${n}::int as n`)[0]?.n),
      ),
    );
    expect(values).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });
});

describe('broken connections', () => {
  test('lose and repeat no committed write', async () => {
    const database = await freshDatabase();
    const postgres = connect(database, 6);
    await postgres.sql.script(
      'create table move (n int primary key); create table total (n int); insert into total values (0)',
    );
    const surely = new Set<number>();
    const maybe = new Set<number>();
    let next = 0;
    let isOver = false;
    const work = async () => {
      while (!isOver) {
        next += 1;
        const mine = next;
        try {
          await postgres.transaction(async (tx) => {
            await tx`insert into move values (${mine})`;
            if (mine % 3 === 0) await pause(mine % 5);
            await tx`update total set n = n + 1`;
          });
          surely.add(mine);
        } catch (error) {
          expect(error).toBeInstanceOf(PostgresUnavailableError);
          maybe.add(mine);
        }
      }
    };
    const workers = Array.from({ length: 4 }, work);
    const admin = connect(url, 1);
    for (let round = 0; round < 15; round++) {
      await pause(40);
      await admin.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'connection under test' and datname <> current_database()`;
    }
    isOver = true;
    await Promise.all(workers);
    const { sql } = connect(database, 1);
    const moves = (await sql<{ n: number }[]>`select n from move`).map(({ n }) => n);
    expect(maybe.size).toBeGreaterThan(0);
    expect(moves.length).toBe((await sql<{ n: number }[]>`select n from total`)[0]?.n ?? -1);
    for (const move of surely) expect(moves).toContain(move);
    for (const move of moves) expect(surely.has(move) || maybe.has(move)).toBe(true);
  }, 30_000);

  test('an unreachable Postgres is an unavailable error at once', async () => {
    const postgres = connect('postgres://nobody@127.0.0.1:1/none');
    const beforeMs = performance.now();
    await expect(postgres.sql`select 1`).rejects.toBeInstanceOf(PostgresUnavailableError);
    await expect(postgres.transaction(async (tx) => tx`select 1`)).rejects.toBeInstanceOf(PostgresUnavailableError);
    expect(performance.now() - beforeMs).toBeLessThan(1_000);
  });

  test('a query that exceeds its timeout is an unavailable error, and the next one succeeds', async () => {
    const postgres = new Postgres({ url, applicationName: 'slow', maxConnections: 1, statementTimeoutMs: 50 });
    open.push(postgres);
    await expect(postgres.sql`select pg_sleep(5)`).rejects.toBeInstanceOf(PostgresUnavailableError);
    expect([...(await postgres.sql`select 1 as one`)]).toEqual([{ one: 1 }]);
  });

  test('a query on a connection whose host no longer answers fails, and the next one uses a new connection', async () => {
    const proxy = await FaultProxy.start({ target: url, random: seededRandom() });
    const postgres = new Postgres({ url: throughProxy(proxy), applicationName: 'half-open', statementTimeoutMs: 100 });
    open.push(postgres);
    await postgres.sql`select 1`;
    proxy.set({ stalled: ['up', 'down'] });
    await expect(postgres.sql`select 1`).rejects.toBeInstanceOf(PostgresUnavailableError);
    await expect(postgres.transaction((tx) => tx`select 1`)).rejects.toBeInstanceOf(PostgresUnavailableError);
    proxy.set({ stalled: [] });
    expect([...(await postgres.sql`select 1 as one`)]).toEqual([{ one: 1 }]);
    await proxy.stop();
  }, 30_000);

  test('a query that gets no connection of the pool in time fails, and is not sent later', async () => {
    const postgres = new Postgres({ url, applicationName: 'busy', maxConnections: 1, acquireTimeoutMs: 50 });
    open.push(postgres);
    const release = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const busy = postgres.transaction(async (tx) => {
      await tx`create temporary table waited (n int)`;
      begun.resolve();
      await release.promise;
    });
    await begun.promise;
    await expect(postgres.sql`insert into waited values (1)`).rejects.toThrow('within 50 ms');
    release.resolve();
    await busy;
    expect([...(await postgres.sql`select count(*) as rows from waited`)]).toEqual([{ rows: 0 }]);
  });

  test('a closed pool refuses queries', async () => {
    const postgres = new Postgres({ url, applicationName: 'closed', maxConnections: 1 });
    await postgres.sql`select 1`;
    await postgres.close();
    await expect(postgres.sql`select 1`).rejects.toBeInstanceOf(PostgresUnavailableError);
  });
});

describe('migrations', () => {
  test('are applied once when several processes start at the same time', async () => {
    const database = await freshDatabase();
    const pools = Array.from({ length: 6 }, () => connect(database, 1));
    const counting = {
      name: '900-counting',
      sql: 'create table if not exists public.runs (n int); insert into public.runs values (1)',
    };
    const migrations = [...(await loadMigrations()), counting];
    await Promise.all(pools.map((pool) => migrate(pool, silentLog, migrations)));
    const { sql } = pools[0] ?? connect(database);
    expect((await sql`select n from public.runs`).length).toBe(1);
    expect((await sql`select name from platform.migrations`).length).toBe(migrations.length);
  });

  test('that were changed after they were applied are refused, and one that fails leaves nothing behind', async () => {
    const database = await freshDatabase();
    const postgres = connect(database, 1);
    await migrate(postgres, silentLog, [{ name: '001-a', sql: 'create table a (n int)' }]);
    const changed = migrate(postgres, silentLog, [{ name: '001-a', sql: 'create table a (n bigint)' }]);
    await expect(changed).rejects.toBeInstanceOf(MigrationChangedError);
    const failing = migrate(postgres, silentLog, [{ name: '002-b', sql: 'create table b (n int); select nonsense' }]);
    await expect(failing).rejects.toThrow(/nonsense/);
    expect((await postgres.sql`select to_regclass('public.b')::text as b`)[0]).toEqual({ b: null });
  });
});

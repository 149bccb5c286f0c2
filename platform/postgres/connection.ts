/**
 * Queries and transactions on a pool of Postgres connections. Only this file imports the package `postgres`.
 *
 * How it works. A client of that package reconnects by itself, and must not be allowed to: it may lose the queries that wait in
 * it, and run the later queries of a transaction whose connection broke outside of that transaction, on the new connection.
 * Each connection of this pool is therefore a client of its own, which runs one query at a time, queues none, and is discarded
 * when its connection breaks. The pool and its queue are in this file.
 *
 * Invariants. A transaction is applied as a whole or not at all, whenever the connection breaks. A retryable failure is a
 * `PostgresUnavailableError`. The next query after a failure opens a new connection, so that recovery needs no restart.
 */

import postgres from 'postgres';
import { retryableReason } from './errors.ts';

/** Connections of a pool, unless its options say otherwise. */
const DEFAULT_POOL_CONNECTIONS = 10;
const CONNECT_TIMEOUT_S = 5;
/** Postgres ends a transaction of a hung process after this time, and releases its locks. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000;
/** How long running queries may take to finish when the pool is closed. */
const CLOSE_GRACE_S = 5;
/** Queries and transactions that may wait for a connection. Further ones are refused: load shedding. */
const MAX_WAITING = 10_000;

const BOOLEAN_ARRAY_OID = 1000;
const JSON_OID = 114;

/** Postgres cannot be reached, or cannot run the query now. Retryable; it is not known whether a write was done. */
export class PostgresUnavailableError extends Error {
  override readonly name: string = 'PostgresUnavailableError';
}

export interface PostgresOptions {
  readonly url: string;
  /** The name of the connections in `pg_stat_activity`. */
  readonly applicationName: string;
  /** @default 10 */
  readonly maxConnections?: number;
  /** Longest time of one query. @default 0: no limit */
  readonly statementTimeoutMs?: number;
  /** Further settings of each session, by the names that Postgres has for them. */
  readonly settings?: Readonly<Record<string, string>>;
}

export type SqlValue =
  | string
  | number
  | boolean
  | null
  | Date
  | Uint8Array
  | readonly (string | number | boolean | null)[]
  | Fragment
  | postgres.Helper<string>
  | postgres.Parameter<unknown>;

/** A piece of SQL with its values, for use in a query. */
export type Fragment = postgres.Fragment;

/** The rows, and how many were returned or changed. */
export type Result<Rows extends readonly object[]> = Rows & { readonly count: number };

/**
 * Queries as tagged templates: `` sql<Row[]>`select … where id = ${id}` ``. `sql(name)` is an identifier, `sql.part` makes a
 * piece of a query. Rows are passed as columns: `unnest(${texts}::text[], ${flags}::boolean[])`, and JSON as text that the query
 * casts. A query that returns an array converts it with `to_json`.
 *
 * `bigint` and `count` are returned as numbers, times as Date.
 * @throws PostgresUnavailableError when the query may succeed later, otherwise the error of Postgres
 */
export interface Sql extends Callable {
  part(template: TemplateStringsArray, ...values: readonly SqlValue[]): Fragment;
  /** A value as a parameter of type `json` or `jsonb`. */
  json(value: unknown): postgres.Parameter<unknown>;
  /** Runs a text of several statements without parameters. */
  script(text: string): Promise<void>;
}

interface Callable {
  <Rows extends readonly object[] = Record<string, unknown>[]>(
    template: TemplateStringsArray,
    ...values: readonly SqlValue[]
  ): Promise<Result<Rows>>;
  (identifier: string): postgres.Helper<string>;
}

/** Queries inside a transaction. */
export interface Tx extends Sql {
  /** Runs a part of the transaction that is rolled back alone when it throws. */
  savepoint<T>(part: () => Promise<T>): Promise<T>;
}

type Client = postgres.Sql<{ bigint: number; text: string }>;

/** A connection that is open or being opened. */
interface Connection {
  readonly client: Client;
  /** Whether the connection broke or could not be opened. A lost connection is not used again. */
  lost: boolean;
}

type Turn = PromiseWithResolvers<Connection>;

export class Postgres {
  /** Runs each query on any connection of the pool, in a transaction of its own. */
  readonly sql: Sql;
  readonly #options: PostgresOptions;
  readonly #maxConnections: number;
  readonly #all = new Set<Connection>();
  /** Connections without a query, the most recently used one last. */
  readonly #idle: Connection[] = [];
  readonly #waiting: Turn[] = [];
  /** Makes fragments and identifiers; it never connects. */
  readonly #templates: Client;
  #closed = false;

  /** The pool opens a connection when a query needs one. */
  constructor(options: PostgresOptions) {
    this.#options = options;
    this.#maxConnections = options.maxConnections ?? DEFAULT_POOL_CONNECTIONS;
    this.#templates = this.#newClient(() => undefined);
    this.sql = tagged(this.#templates, (query) => this.#withConnection((connection) => answer(connection, query)));
  }

  /**
   * Runs a transaction (read committed): commits when `work` resolves, rolls back when it throws.
   *
   * @throws PostgresUnavailableError, when it is not known whether the transaction is committed; the error that `work` throws
   */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#withConnection(async (connection) => {
      const tx = transactional(this.#templates, connection);
      try {
        await tx`begin`;
        const result = await work(tx);
        await tx`commit`;
        return result;
      } catch (error) {
        await rollBack(connection, tx);
        throw error;
      }
    });
  }

  /** Closes the pool. Queries that still run after `graceS` seconds are cut off. */
  async close(graceS = CLOSE_GRACE_S): Promise<void> {
    this.#closed = true;
    for (const turn of this.#waiting.splice(0))
      turn.reject(new PostgresUnavailableError('The pool of Postgres connections is closed.'));
    await Promise.all([...this.#all].map(({ client }) => client.end({ timeout: graceS })));
  }

  async #withConnection<T>(use: (connection: Connection) => Promise<T>): Promise<T> {
    const connection = await this.#acquire();
    try {
      return await use(connection);
    } finally {
      this.#release(connection);
    }
  }

  async #acquire(): Promise<Connection> {
    if (this.#closed) throw new PostgresUnavailableError('The pool of Postgres connections is closed.');
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#all.size < this.#maxConnections) return this.#open();
    if (this.#waiting.length >= MAX_WAITING)
      throw new PostgresUnavailableError(
        `${MAX_WAITING} queries wait for a Postgres connection already. Nothing was done; retry later.`,
      );
    const turn: Turn = Promise.withResolvers();
    this.#waiting.push(turn);
    return turn.promise;
  }

  #release(connection: Connection): void {
    if (connection.lost) this.#discard(connection);
    const next = this.#waiting.shift();
    if (next !== undefined) next.resolve(connection.lost ? this.#open() : connection);
    else if (!connection.lost) this.#idle.push(connection);
  }

  #open(): Connection {
    const connection: Connection = {
      lost: false,
      client: this.#newClient(() => {
        connection.lost = true;
        const at = this.#idle.indexOf(connection);
        if (at >= 0) this.#discard(...this.#idle.splice(at, 1));
      }),
    };
    this.#all.add(connection);
    return connection;
  }

  #discard(...connections: Connection[]): void {
    for (const connection of connections) {
      this.#all.delete(connection);
      void connection.client.end({ timeout: 0 });
    }
  }

  #newClient(onClose: () => void): Client {
    const { url, applicationName, statementTimeoutMs = 0, settings = {} } = this.#options;
    return postgres(url, {
      max: 1,
      connect_timeout: CONNECT_TIMEOUT_S,
      max_lifetime: null,
      backoff: () => 0,
      onnotice: () => undefined,
      onclose: onClose,
      types: { bigint: BIGINT, text: TEXT, ...ARRAYS },
      // Otherwise the package queries the types of arrays on every new connection, and crashes the process when that fails.
      fetch_types: false,
      connection: {
        ...settings,
        application_name: applicationName,
        statement_timeout: statementTimeoutMs,
        idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
      },
    });
  }
}

type Ask<T> = (client: Client) => PromiseLike<T>;

/** Asks when it is its turn. */
type Run = <T>(ask: Ask<T>) => Promise<T>;

function transactional(scribe: Client, connection: Connection): Tx {
  let last: Promise<unknown> = Promise.resolve();
  const run: Run = (ask) => {
    const turn = last.then(() => answer(connection, ask));
    last = turn.catch(() => undefined);
    return turn;
  };
  const sql = tagged(scribe, run);
  let savepoints = 0;
  const savepoint = async <T>(part: () => Promise<T>): Promise<T> => {
    savepoints += 1;
    const name = sql(`part_${savepoints}`);
    await sql`savepoint ${name}`;
    try {
      const result = await part();
      await sql`release savepoint ${name}`;
      return result;
    } catch (error) {
      await sql`rollback to savepoint ${name}`;
      throw error;
    }
  };
  return Object.assign(sql, { savepoint });
}

async function rollBack(connection: Connection, tx: Tx): Promise<void> {
  if (connection.lost) return;
  try {
    await tx`rollback`;
  } catch {
    // The server rolls back by itself when the connection ends.
    connection.lost = true;
  }
}

function tagged(scribe: Client, run: Run): Sql {
  const part = (template: TemplateStringsArray, ...values: readonly SqlValue[]): Fragment =>
    scribe(template, ...values.map((value) => typedArray(scribe, value)));
  const sql = (first: string | TemplateStringsArray, ...values: readonly SqlValue[]) =>
    typeof first === 'string'
      ? scribe(first)
      : run((client) => client(first, ...values.map((value) => typedArray(scribe, value))));
  const json = (value: unknown) => scribe.typed(value, JSON_OID);
  const script = async (text: string) => {
    await run((client) => client.unsafe(text));
  };
  return Object.assign(sql as Callable, { part, json, script });
}

/** Asks on a connection and waits for the answer. */
async function answer<T>(connection: Connection, ask: Ask<T>): Promise<T> {
  if (connection.lost) throw new PostgresUnavailableError('the connection of the transaction was lost');
  try {
    return await ask(connection.client);
  } catch (error) {
    const reason = retryableReason(error);
    if (reason === undefined) throw error;
    // It may be broken, or about to be: a query that follows on it might never be answered.
    connection.lost = true;
    throw new PostgresUnavailableError(`Postgres cannot be used now: ${reason}`, { cause: error });
  }
}

/** The package takes the type of an array from its first element, and a boolean there for the type of the whole. */
function typedArray(scribe: Client, value: SqlValue): SqlValue {
  const isFlags = Array.isArray(value) && value.some((element) => typeof element === 'boolean');
  return isFlags ? scribe.typed(value, BOOLEAN_ARRAY_OID) : value;
}

const BIGINT = {
  to: 20,
  from: [20],
  serialize: (value: number) => String(value),
  parse: (text: string): number => {
    const value = Number(text);
    if (!Number.isSafeInteger(value)) throw new RangeError(`the bigint ${text} does not fit a number`);
    return value;
  },
};

const TEXT = {
  to: 25,
  from: [],
  serialize: (value: string) => withoutNul(String(value)),
  parse: (text: string) => text,
};

/** The types of arrays that queries take, by the OIDs that Postgres gives them. */
const ARRAYS = Object.fromEntries(
  Object.entries({
    'boolean[]': BOOLEAN_ARRAY_OID,
    'smallint[]': 1005,
    'int[]': 1007,
    'text[]': 1009,
    'varchar[]': 1015,
    'bigint[]': 1016,
    'double precision[]': 1022,
    'timestamptz[]': 1185,
    'uuid[]': 2951,
  }).map(([name, oid]) => [name, { to: oid, from: [], serialize: arrayLiteral, parse: (text: string) => text }]),
) as Record<never, never>;

function arrayLiteral(values: readonly (string | number | boolean | null)[]): string {
  return `{${values.map(elementLiteral).join(',')}}`;
}

/** What JSON writes otherwise than Postgres reads it: control characters are escaped by letters there. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL_CHARACTER = /[\u0000-\u001f]/;

function elementLiteral(value: string | number | boolean | null): string {
  if (value === null) return 'NULL';
  if (typeof value !== 'string') return String(value);
  // Both escape quotes and backslashes alike, and documents are full of quotes: the engine's own writer is much faster.
  if (!CONTROL_CHARACTER.test(value) && value.isWellFormed()) return JSON.stringify(value);
  return `"${withoutNul(value).replace(/["\\]/g, '\\$&')}"`;
}

/** NUL is the one character that Postgres cannot keep in a text. */
function withoutNul(text: string): string {
  return text.replaceAll('\0', '\uFFFD');
}

/**
 * The only door to the package `postgres`: queries on a pool of connections, and transactions.
 *
 * How it works. A client of that package reconnects by itself, and that is what has to be kept from it: queries that wait in
 * it, or follow in a transaction whose connection broke, may be lost, or run outside of their transaction on the connection
 * that takes its place. So every connection here is a client of its own that has one query at a time and none waiting, and
 * is thrown away when it breaks. The pool and the queue for it are ours.
 *
 * What holds. A transaction is applied whole or not at all, whatever breaks when. Whatever may work later comes out as
 * `PostgresUnavailableError`. The next query after a failure opens a new connection: recovery needs no restart.
 */

import postgres from 'postgres';
import { retryableReason } from './errors.ts';

/** Connections of a pool unless it is told otherwise. */
const DEFAULT_POOL_CONNECTIONS = 10;
const CONNECT_TIMEOUT_S = 5;
/** A transaction of a process that stands still gives up its locks after this. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000;
/** How long the pool may finish what it does when it is closed. */
const CLOSE_GRACE_S = 5;
/** Queries and transactions that wait for a connection; a further one is refused. */
const MAX_WAITING = 10_000;

const BOOLEAN_ARRAY_OID = 1000;
const JSON_OID = 114;

/** Postgres cannot be reached, or cannot do it now. Retryable; whether a write was done is not known. */
export class PostgresUnavailableError extends Error {
  override readonly name: string = 'PostgresUnavailableError';
}

export interface PostgresOptions {
  readonly url: string;
  /** What the connections are called in `pg_stat_activity`. */
  readonly applicationName: string;
  /** @default 10 */
  readonly maxConnections?: number;
  /** Longest time that one query may take. @default 0: no limit */
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

/** A piece of SQL with its values, to stand in a query. */
export type Fragment = postgres.Fragment;

/** The rows, and how many were returned or changed. */
export type Result<Rows extends readonly object[]> = Rows & { readonly count: number };

/**
 * Queries as tagged templates: `` sql<Row[]>`select … where id = ${id}` ``. `sql(name)` is an identifier, `sql.part` makes a
 * piece of a query. Rows travel as columns: `unnest(${texts}::text[], ${flags}::boolean[])`; JSON as text that is cast where
 * it is used. Arrays are not read: `to_json` makes one readable.
 *
 * bigint and count come back as numbers, times as Date. What fails is `PostgresUnavailableError`, or Postgres' own error.
 */
export interface Sql extends Callable {
  part(template: TemplateStringsArray, ...values: readonly SqlValue[]): Fragment;
  /** A value as the JSON that it is, for one `json` or `jsonb`. */
  json(value: unknown): postgres.Parameter<unknown>;
  /** Runs a text with several statements, without values. */
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
  /** Runs a part that may fail without taking the transaction with it. */
  savepoint<T>(part: () => Promise<T>): Promise<T>;
}

type Client = postgres.Sql<{ bigint: number; text: string }>;

/** One connection, or one to be. */
interface Connection {
  readonly client: Client;
  /** It broke or could not be opened, and is not used again. */
  lost: boolean;
}

type Turn = PromiseWithResolvers<Connection>;

export class Postgres {
  /** Each query on any connection of the pool. */
  readonly sql: Sql;
  readonly #options: PostgresOptions;
  readonly #maxConnections: number;
  readonly #all = new Set<Connection>();
  /** Connections that nobody uses, the one used last at the end. */
  readonly #idle: Connection[] = [];
  readonly #waiting: Turn[] = [];
  /** Makes fragments and identifiers; it never connects. */
  readonly #scribe: Client;
  #closed = false;

  /** Connects when the first query needs it. */
  constructor(options: PostgresOptions) {
    this.#options = options;
    this.#maxConnections = options.maxConnections ?? DEFAULT_POOL_CONNECTIONS;
    this.#scribe = this.#newClient(() => undefined);
    this.sql = tagged(this.#scribe, (query) => this.#withConnection((connection) => answer(connection, query)));
  }

  /**
   * Runs a transaction (read committed): commits when `work` is done, rolls back when it throws.
   *
   * @throws PostgresUnavailableError, and then it may be committed or not; whatever `work` throws
   */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#withConnection(async (connection) => {
      const tx = transactional(this.#scribe, connection);
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

  /** Ends what still runs when the grace is over. */
  async close(graceS = CLOSE_GRACE_S): Promise<void> {
    this.#closed = true;
    for (const turn of this.#waiting.splice(0)) turn.reject(new PostgresUnavailableError('the pool was closed'));
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
    if (this.#closed) throw new PostgresUnavailableError('the pool was closed');
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#all.size < this.#maxConnections) return this.#open();
    if (this.#waiting.length >= MAX_WAITING) throw new PostgresUnavailableError('too many queries wait for Postgres');
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
      // The package would ask every new connection for the types of arrays, and crash the process when that fails.
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

/**
 * Queries and transactions on a pool of Postgres connections. Only this file imports the package `postgres`.
 *
 * How it works. A client of that package reconnects by itself, and must not be allowed to: it may lose the queries that wait in
 * it, and run the later queries of a transaction whose connection broke outside of that transaction, on the new connection.
 * Each connection of this pool is therefore a client of its own, which runs one query at a time, queues none, and is discarded
 * when its connection breaks. The pool, its queue and its transactions are in this file.
 *
 * Invariants. A transaction is applied as a whole or not at all, whenever the connection breaks. A retryable failure is a
 * `PostgresUnavailableError`. The next query after a failure opens a new connection, so that recovery needs no restart.
 */

import postgres from 'postgres';
import { retryableReason } from './errors.ts';
import { BOOLEAN_ARRAY_OID, isBooleanArray, JSON_OID, VALUE_TYPES } from './value-types.ts';

/** Connections of a pool, unless its options say otherwise. */
const DEFAULT_POOL_CONNECTIONS = 10;
const CONNECT_TIMEOUT_S = 5;
/** Longest time of one query: far above what a query of the platform takes, and short enough to notice that the server hangs. */
export const DEFAULT_STATEMENT_TIMEOUT_MS = 60_000;
/** How much longer than the statement timeout the pool waits for an answer, connecting included. Then the network or the host has failed. */
const ANSWER_GRACE_MS = 5_000;
const DEFAULT_ACQUIRE_TIMEOUT_MS = 15_000;
/** Postgres ends a transaction of a hung process after this time, and releases its locks. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000;
/** How long running queries may take to finish when the pool is closed. */
const CLOSE_GRACE_S = 5;
/** Queries and transactions that may wait for a connection. Further ones are refused: load shedding. */
const MAX_WAITING = 10_000;

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
  /** Longest time of one query, after which Postgres cancels it. @default DEFAULT_STATEMENT_TIMEOUT_MS */
  readonly statementTimeoutMs?: number;
  /** Longest time that a query or transaction waits for a connection of the pool. @default DEFAULT_ACQUIRE_TIMEOUT_MS */
  readonly acquireTimeoutMs?: number;
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
  /** Runs `work` after a savepoint. When `work` throws, only its changes are rolled back. */
  savepoint<T>(work: () => Promise<T>): Promise<T>;
}

type Client = postgres.Sql<{ bigint: number; text: string }>;

/** A connection that is open or being opened. */
interface Connection {
  readonly client: Client;
  /** Whether the connection broke or could not be opened. A lost connection is not used again. */
  lost: boolean;
  /** Longest time until a query is answered. */
  readonly answerTimeoutMs: number;
}

/** A caller that waits for a connection of the pool. */
type Waiter = PromiseWithResolvers<Connection>;

export class Postgres {
  /** Runs each query on any connection of the pool, in a transaction of its own. */
  readonly sql: Sql;
  readonly #options: PostgresOptions;
  readonly #maxConnections: number;
  readonly #connections = new Set<Connection>();
  /** Connections without a query, the most recently used one last. */
  readonly #idle: Connection[] = [];
  readonly #waiting: Waiter[] = [];
  /** Makes fragments and identifiers; it never connects. */
  readonly #templates: Client;
  #closed = false;

  /** The pool opens a connection when a query needs one. */
  constructor(options: PostgresOptions) {
    this.#options = options;
    this.#maxConnections = options.maxConnections ?? DEFAULT_POOL_CONNECTIONS;
    this.#templates = this.#newClient(() => undefined);
    this.sql = tagged(this.#templates, (query) => this.#withConnection((connection) => runOn(connection, query)));
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
    for (const waiter of this.#waiting.splice(0))
      waiter.reject(new PostgresUnavailableError('The pool of Postgres connections is closed.'));
    await Promise.all([...this.#connections].map(({ client }) => client.end({ timeout: graceS })));
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
    if (this.#connections.size < this.#maxConnections) return this.#open();
    if (this.#waiting.length >= MAX_WAITING)
      throw new PostgresUnavailableError(
        `${MAX_WAITING} queries wait for a Postgres connection already. Nothing was done; retry later.`,
      );
    const { acquireTimeoutMs = DEFAULT_ACQUIRE_TIMEOUT_MS } = this.#options;
    const waiter: Waiter = Promise.withResolvers();
    this.#waiting.push(waiter);
    const timer = setTimeout(() => {
      const place = this.#waiting.indexOf(waiter);
      if (place >= 0) this.#waiting.splice(place, 1);
      const text = `No Postgres connection became free within ${acquireTimeoutMs} ms. Nothing was done; retry later.`;
      waiter.reject(new PostgresUnavailableError(text));
    }, acquireTimeoutMs);
    return waiter.promise.finally(() => clearTimeout(timer));
  }

  #release(connection: Connection): void {
    if (connection.lost) this.#discard(connection);
    const next = this.#waiting.shift();
    if (next !== undefined) next.resolve(connection.lost ? this.#open() : connection);
    else if (!connection.lost) this.#idle.push(connection);
  }

  #open(): Connection {
    const { statementTimeoutMs = DEFAULT_STATEMENT_TIMEOUT_MS } = this.#options;
    const connection: Connection = {
      lost: false,
      answerTimeoutMs: statementTimeoutMs + ANSWER_GRACE_MS,
      client: this.#newClient(() => {
        connection.lost = true;
        const at = this.#idle.indexOf(connection);
        if (at >= 0) this.#discard(...this.#idle.splice(at, 1));
      }),
    };
    this.#connections.add(connection);
    return connection;
  }

  #discard(...connections: Connection[]): void {
    for (const connection of connections) {
      this.#connections.delete(connection);
      void connection.client.end({ timeout: 0 });
    }
  }

  #newClient(onClose: () => void): Client {
    const { url, applicationName, statementTimeoutMs = DEFAULT_STATEMENT_TIMEOUT_MS, settings = {} } = this.#options;
    return postgres(url, {
      max: 1,
      connect_timeout: CONNECT_TIMEOUT_S,
      max_lifetime: null,
      backoff: () => 0,
      onnotice: () => undefined,
      onclose: onClose,
      types: VALUE_TYPES,
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

type Query<T> = (client: Client) => PromiseLike<T>;

/** Runs a query on a connection of the pool, or on the connection of a transaction. */
type QueryRunner = <T>(query: Query<T>) => Promise<T>;

function transactional(templates: Client, connection: Connection): Tx {
  let last: Promise<unknown> = Promise.resolve();
  // The queries of a transaction run one after the other, also when the caller does not await each.
  const runInOrder: QueryRunner = (query) => {
    const result = last.then(() => runOn(connection, query));
    last = result.catch(() => undefined);
    return result;
  };
  const sql = tagged(templates, runInOrder);
  let savepoints = 0;
  const savepoint = async <T>(work: () => Promise<T>): Promise<T> => {
    savepoints += 1;
    const name = sql(`savepoint_${savepoints}`);
    await sql`savepoint ${name}`;
    try {
      const result = await work();
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

function tagged(templates: Client, runQuery: QueryRunner): Sql {
  const part = (template: TemplateStringsArray, ...values: readonly SqlValue[]): Fragment =>
    templates(template, ...values.map((value) => withArrayType(templates, value)));
  const sql = (first: string | TemplateStringsArray, ...values: readonly SqlValue[]) =>
    typeof first === 'string'
      ? templates(first)
      : runQuery((client) => client(first, ...values.map((value) => withArrayType(templates, value))));
  const json = (value: unknown) => templates.typed(value, JSON_OID);
  const script = async (text: string) => {
    await runQuery((client) => client.unsafe(text));
  };
  return Object.assign(sql as Callable, { part, json, script });
}

/** Runs a query on a connection. A retryable failure marks the connection as lost. */
async function runOn<T>(connection: Connection, query: Query<T>): Promise<T> {
  if (connection.lost)
    throw new PostgresUnavailableError(
      'The connection to Postgres was lost, so the query was not sent and its transaction is rolled back. Repeat the transaction.',
    );
  // A host that vanished, or a half-open connection, never answers. Ending the client rejects the query.
  const timer = setTimeout(() => {
    connection.lost = true;
    void connection.client.end({ timeout: 0 });
  }, connection.answerTimeoutMs);
  try {
    return await query(connection.client);
  } catch (error) {
    const reason = retryableReason(error);
    if (reason === undefined) throw error;
    // The connection may be broken or about to break, and Postgres might never answer a further query on it.
    connection.lost = true;
    throw new PostgresUnavailableError(`Postgres cannot be used now: ${reason}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** The package derives the type of an array from its first element, and would send an array of booleans as one boolean. */
function withArrayType(templates: Client, value: SqlValue): SqlValue {
  return isBooleanArray(value) ? templates.typed(value, BOOLEAN_ARRAY_OID) : value;
}

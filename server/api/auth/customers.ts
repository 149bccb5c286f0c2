/** Who a customer is in the log: a random id. The table that ties it to a `sub` can be erased; the log stays whole. */

import type { Sql } from '../../../platform/postgres/connection.ts';

const MAX_REMEMBERED_CUSTOMERS = 50_000;

export class Customers {
  readonly #sql: Sql;
  readonly #newId: () => string;
  readonly #remembered = new Map<string, string>();

  /** `newId` makes random UUIDs. */
  constructor(sql: Sql, newId: () => string) {
    this.#sql = sql;
    this.#newId = newId;
  }

  /** The id of a customer, made at the first request. */
  async idOf(sub: string): Promise<string> {
    const known = this.#remembered.get(sub);
    if (known !== undefined) return known;
    const [row] = await this.#sql<{ id: string }[]>`
      with made as (
        insert into platform.customers (sub, id) values (${sub}, ${this.#newId()})
        on conflict (sub) do nothing returning id
      )
      select id from made union all select id from platform.customers where sub = ${sub} limit 1`;
    // Two first requests at once: the loser's insert found the row that its snapshot does not show yet.
    if (row === undefined) return this.idOf(sub);
    if (this.#remembered.size >= MAX_REMEMBERED_CUSTOMERS) this.#remembered.clear();
    this.#remembered.set(sub, row.id);
    return row.id;
  }
}

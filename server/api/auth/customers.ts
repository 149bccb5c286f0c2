/**
 * The ids of customers in the event log. They are random, and only the table `platform.customers` connects them with the subjects of
 * tokens. To forget a customer, an operator erases the row; the event log stays complete.
 */

import { LRUCache } from 'lru-cache';
import type { Sql } from '../../../platform/postgres/connection.ts';

const MAX_CACHED_BYTES = 16 * 1024 * 1024;
/** An estimate of the bytes of a cache entry without the text of its subject. */
const ENTRY_BYTES = 200;

export class Customers {
  readonly #sql: Sql;
  readonly #newId: () => string;
  readonly #ids = new LRUCache<string, string>({
    maxSize: MAX_CACHED_BYTES,
    sizeCalculation: (_, sub) => ENTRY_BYTES + 2 * sub.length,
  });

  /** `newId` makes random UUIDs. */
  constructor(sql: Sql, newId: () => string) {
    this.#sql = sql;
    this.#newId = newId;
  }

  /** The id of the customer with a subject. The first request of a customer makes it. */
  async idOf(sub: string): Promise<string> {
    const known = this.#ids.get(sub);
    if (known !== undefined) return known;
    const [row] = await this.#sql<{ id: string }[]>`
      with inserted as (
        insert into platform.customers (sub, id) values (${sub}, ${this.#newId()})
        on conflict (sub) do nothing returning id
      )
      select id from inserted union all select id from platform.customers where sub = ${sub} limit 1`;
    // Of two first requests at the same time, one inserts. The snapshot of the other does not show that row yet.
    if (row === undefined) return this.idOf(sub);
    this.#ids.set(sub, row.id);
    return row.id;
  }
}

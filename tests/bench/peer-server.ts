/**
 * The peer of `reserve`: what one would write without an event store. The same Elysia route, with the same token check and
 * the same validation, that inserts into a Postgres table whose exclusion constraint keeps two reservations of one locker
 * from overlapping. Prints `ready PORT`.
 */

import { Elysia } from 'elysia';
import postgres from 'postgres';
import { secretVerifier } from '../../platform/auth/tokens.ts';
import { ReserveBody } from '../../server/api/reservations/schema.ts';
import { readJson } from '../../server/http/request-body.ts';

const EXCLUSION_VIOLATION = '23P01';
const CONNECTIONS = 32;

const { databaseUrl, secret } = (await Bun.stdin.json()) as { databaseUrl: string; secret: string };
const sql = postgres(databaseUrl, { max: CONNECTIONS, onnotice: () => undefined });
await sql`create extension if not exists btree_gist`;
await sql`
  create table reservation (
    id uuid primary key, unit text not null, locker text not null, customer text not null, period tstzrange not null,
    status text not null, hold_expires_at timestamptz not null, price int not null,
    exclude using gist (unit with =, locker with =, period with &&)
  )`;
const tokens = secretVerifier(secret, Date.now);

const app = new Elysia({ normalize: false })
  .onParse(({ request }) => readJson(request))
  .derive(async ({ headers }) => ({ principal: await tokens.verify((headers.authorization ?? '').slice(7)) }))
  .post(
    '/v1/reservations/',
    async ({ principal, body, set }) => {
      const { unit, locker = '', from, until } = body;
      const id = Bun.randomUUIDv7();
      const holdExpiresAt = new Date(Date.now() + 600_000);
      try {
        await sql`
          insert into reservation (id, unit, locker, customer, period, status, hold_expires_at, price)
          values (${id}, ${unit}, ${locker}, ${principal.sub}, tstzrange(${from}, ${until}), 'held', ${holdExpiresAt}, 100)`;
      } catch (error) {
        if (!(error instanceof postgres.PostgresError) || error.code !== EXCLUSION_VIOLATION) throw error;
        set.status = 409;
        return { type: '/problems/no-locker-free' };
      }
      set.status = 201;
      return { id: `${unit}.${id}`, unit, locker, from, until, status: 'held', holdExpiresAt, price: 100 };
    },
    { body: ReserveBody },
  )
  .listen({ hostname: '127.0.0.1', port: 0 });
console.log(`ready ${app.server?.port}`);

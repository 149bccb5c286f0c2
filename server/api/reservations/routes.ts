import { Elysia } from 'elysia';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { customerReservations, getReservation } from '../../../projections/reservations/queries.ts';
import { Problem } from '../../http/problems.ts';
import { DEFAULT_LIMIT, type Reads } from '../../http/reads.ts';
import type { Write, Writes } from '../../http/writes.ts';
import type { Customers } from '../auth/customers.ts';
import type { Guard } from '../auth/guard.ts';
import { CANCEL, CONFIRM, END, GET_ONE, HOLD, LIST_OWN, OPEN } from './contract.ts';
import type { Reservations } from './handlers.ts';
import { unitOfReservation } from './schema.ts';

export interface ReservationRouteDependencies {
  readonly guard: Guard;
  readonly customers: Customers;
  readonly writes: Writes;
  readonly reads: Reads;
  readonly reservations: Reservations;
  readonly readModels: ReadModels;
}

export function reservationRoutes(deps: ReservationRouteDependencies) {
  const { guard, customers, writes, reads, reservations, readModels } = deps;
  return new Elysia({ prefix: '/v1/reservations' })
    .derive(async ({ headers, path, request }) => {
      const principal = await guard.require(headers.authorization, 'customer');
      const key = headers['idempotency-key'];
      const write = (body: unknown): Write => ({ principal, route: `${request.method} ${path}`, key, body });
      return { customer: await customers.idOf(principal.sub), write };
    })
    .post(
      '',
      ({ customer, write, body, set }) =>
        writes.run(write(body), set, (commandId) => reservations.hold(commandId, customer, body)),
      HOLD,
    )
    .post(
      '/:id/confirm',
      ({ customer, write, params: { id }, body, set }) =>
        writes.run(write(body), set, (commandId) =>
          reservations.confirm({ commandId, customer, reservationId: id }, body.paymentReference),
        ),
      CONFIRM,
    )
    .post(
      '/:id/cancel',
      ({ customer, write, params: { id }, set }) =>
        writes.run(write(null), set, (commandId) => reservations.cancel({ commandId, customer, reservationId: id })),
      CANCEL,
    )
    .post(
      '/:id/open',
      ({ customer, write, params: { id }, set }) =>
        writes.run(write(null), set, (commandId) => reservations.open({ commandId, customer, reservationId: id })),
      OPEN,
    )
    .post(
      '/:id/end',
      ({ customer, write, params: { id }, set }) =>
        writes.run(write(null), set, (commandId) => reservations.end({ commandId, customer, reservationId: id })),
      END,
    )
    .get(
      '/:id',
      async ({ customer, params: { id }, query }) => {
        await reads.wait('reservations', query.minPosition, unitOfReservation(id));
        const found = await getReservation(readModels, { id, customer });
        if (found === undefined) throw new Problem('not-found', 404, 'There is no such reservation.');
        return reservations.view(found);
      },
      GET_ONE,
    )
    .get(
      '',
      async ({ customer, query: { minPosition, limit = DEFAULT_LIMIT, ...page } }) => {
        await reads.wait('reservations', minPosition);
        const found = await customerReservations(readModels, { customer, limit, ...page });
        return { ...found, items: await Promise.all(found.items.map((item) => reservations.view(item))) };
      },
      LIST_OWN,
    );
}

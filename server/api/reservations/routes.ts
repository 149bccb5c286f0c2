import { Elysia } from 'elysia';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { getReservation, listReservations } from '../../../projections/reservations/queries.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { invalidField, Problem } from '../../http/problems.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { ReservationService } from './reservation-service.ts';
import { type ReservationSupport, supportedReservation } from './reservation-support.ts';
import { CANCEL, CONFIRM, END, FORCE_END, GET_ONE, HOLD, LIST, OPEN } from './schema.ts';

export interface ReservationRouteDependencies {
  readonly reservations: ReservationService;
  readonly support: ReservationSupport;
  readonly readModels: ReadModels;
}

export function reservationRoutes(
  macros: ApiMacros,
  { reservations, support, readModels }: ReservationRouteDependencies,
) {
  return new Elysia({ prefix: '/v1/reservations' })
    .use(macros)
    .post('', ({ caller, write, body }) => write((commandId) => reservations.hold(commandId, caller.id, body)), HOLD)
    .post(
      '/:id/confirm',
      ({ caller, write, params, body }) =>
        write((commandId) =>
          reservations.confirm({ commandId, customer: caller.id, reservationId: params.id }, body.paymentReference),
        ),
      CONFIRM,
    )
    .post(
      '/:id/cancel',
      ({ caller, write, params }) =>
        write((commandId) => reservations.cancel({ commandId, customer: caller.id, reservationId: params.id })),
      CANCEL,
    )
    .post(
      '/:id/open',
      ({ caller, write, params }) =>
        write((commandId) => reservations.open({ commandId, customer: caller.id, reservationId: params.id })),
      OPEN,
    )
    .post(
      '/:id/end',
      ({ caller, write, params }) =>
        write((commandId) => reservations.end({ commandId, customer: caller.id, reservationId: params.id })),
      END,
    )
    .post(
      '/:id/force-end',
      ({ caller: { actor }, write, params: { id: reservationId }, body }) =>
        write((commandId) => support.forceEnd({ commandId, actor, reservationId }, body.reason)),
      FORCE_END,
    )
    .get(
      '/:id',
      async ({ caller, params: { id } }) => {
        const found = await getReservation(readModels, { id, customer: caller.id });
        if (found === undefined) throw new Problem('not-found', 404, `You have no reservation ${id}.`);
        return reservations.view(found);
      },
      GET_ONE,
    )
    .get(
      '',
      async ({ caller, query: { minPosition: _, limit = DEFAULT_LIMIT, ...page } }) => {
        if (caller.role === 'ops') {
          const found = await listReservations(readModels, { limit, ...page });
          return { ...found, items: found.items.map(supportedReservation) };
        }
        if (page.customer !== undefined) throw invalidField('/query/customer', 'is for operators: you see your own');
        const found = await listReservations(readModels, { ...page, customer: caller.id, limit });
        return { ...found, items: await Promise.all(found.items.map((item) => reservations.view(item))) };
      },
      LIST,
    );
}

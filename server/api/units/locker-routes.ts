import { Elysia } from 'elysia';
import type { ApiMacros } from '../../http/api-macros.ts';
import {
  ADD_LOCKER,
  CANCEL_MAINTENANCE,
  OPEN_FOR_SERVICE,
  PLAN_MAINTENANCE,
  REMOVE_LOCKER,
  RETURN_TO_SERVICE,
  TAKE_OUT_OF_SERVICE,
} from './lockers-schema.ts';
import type { UnitLockers } from './unit-lockers.ts';

export interface LockerRouteDependencies {
  readonly lockers: UnitLockers;
}

export function lockerRoutes(macros: ApiMacros, { lockers }: LockerRouteDependencies) {
  return new Elysia({ prefix: '/v1/units/:name' })
    .use(macros)
    .post(
      '/lockers',
      ({ caller: { actor }, write, params, body }) =>
        write((commandId) => lockers.add({ ...params, commandId, actor }, body)),
      ADD_LOCKER,
    )
    .delete(
      '/lockers/:id',
      ({ caller: { actor }, write, params: { name, id: lockerId }, query }) =>
        write((commandId) => lockers.remove({ commandId, actor, name, lockerId }, query.force === true)),
      REMOVE_LOCKER,
    )
    .post(
      '/lockers/:id/out-of-service',
      ({ caller: { actor }, write, params: { name, id: lockerId }, body }) =>
        write((commandId) => lockers.takeOutOfService({ commandId, actor, name, lockerId }, body)),
      TAKE_OUT_OF_SERVICE,
    )
    .post(
      '/lockers/:id/return-to-service',
      ({ caller: { actor }, write, params: { name, id: lockerId } }) =>
        write((commandId) => lockers.returnToService({ commandId, actor, name, lockerId })),
      RETURN_TO_SERVICE,
    )
    .post(
      '/lockers/:id/open',
      ({ caller: { actor }, write, params: { name, id: lockerId }, body }) =>
        write((commandId) => lockers.open({ commandId, actor, name, lockerId }, body.reason)),
      OPEN_FOR_SERVICE,
    )
    .post(
      '/maintenance',
      ({ caller: { actor }, write, params, body }) =>
        write((commandId) => lockers.planMaintenance({ ...params, commandId, actor }, body)),
      PLAN_MAINTENANCE,
    )
    .delete(
      '/maintenance/:id',
      ({ caller: { actor }, write, params: { name, id } }) =>
        write((commandId) => lockers.cancelMaintenance({ commandId, actor, name }, id)),
      CANCEL_MAINTENANCE,
    );
}

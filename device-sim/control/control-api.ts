/**
 * The control API of a simulated fleet, on loopback: tests and operators read the state of units, set their faults, and act
 * as customers at them.
 */

import { Type } from '@sinclair/typebox';
import { Locker, LockerId } from '../../domain/vocabulary.ts';
import { SignatureError } from '../../platform/unit-protocol/signatures.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import { FaultChange } from '../faults/faults.ts';
import type { Readiness } from '../fleet/readiness.ts';
import type { UnitRequestHandler } from '../transports/request-handler.ts';
import { typeAccessCode } from '../unit/access-codes.ts';
import { closeDoor, giveBackLocker, openLocker, redeemReservation, rentAtScreen } from '../unit/customer-actions.ts';
import { installLocker, removeLocker } from '../unit/installation.ts';
import { findLocker, type Outcome, type UnitLocker } from '../unit/model.ts';
import { ControlProblem, validationProblem } from './problem.ts';
import { EmptyBody, readBody } from './request-body.ts';

const LOOPBACK = '127.0.0.1';
/** A larger body is refused without a problem document. Up to this length, `readBody` refuses what is too long. */
const MAX_REFUSED_BODY_BYTES = 1024 ** 3;
/** The server closes a connection that is silent for this long. A request waits only for a commit of the store, which takes far less. */
const IDLE_TIMEOUT_S = 30;

const strict = { additionalProperties: false };
const WalkUpBody = Type.Object(
  { locker: Type.Optional(LockerId), minutes: Type.Integer({ minimum: 1, maximum: 1_000_000 }) },
  strict,
);
const RedeemBody = Type.Object({ token: Type.String({ minLength: 1, maxLength: 8_192 }) }, strict);
const InstallBody = Type.Object(Locker.properties, strict);
const TypeCodeBody = Type.Object({ code: Type.String({ pattern: '^\\d{6}$' }) }, strict);

/** The part of a fleet that the control API acts on. */
export interface ControlledFleet {
  readonly members: ReadonlyMap<string, { readonly unit: EmulatedUnit; readonly requests: UnitRequestHandler }>;
  readiness(): Readiness;
}

/** @param port 0 for a free port */
export function startControlApi(port: number, fleet: ControlledFleet): { url: string; stop(): Promise<void> } {
  const server = Bun.serve({
    hostname: LOOPBACK,
    port,
    maxRequestBodySize: MAX_REFUSED_BODY_BYTES,
    idleTimeout: IDLE_TIMEOUT_S,
    fetch: async (request) => {
      try {
        return await route(request, fleet);
      } catch (error) {
        if (error instanceof ControlProblem) return error.toResponse();
        throw error;
      }
    },
    error: (error) => new ControlProblem('unavailable', error.message).toResponse(),
  });
  return { url: `http://${LOOPBACK}:${server.port}`, stop: () => server.stop(true) };
}

async function route(request: Request, fleet: ControlledFleet): Promise<Response> {
  const [collection, name, ...rest] = pathOf(request);
  if (collection === 'readyz' && name === undefined && request.method === 'GET') {
    const readiness = fleet.readiness();
    return Response.json(readiness, { status: readiness.ready ? 200 : 503 });
  }
  if (collection !== 'units') throw unknownPath(request);
  if (name === undefined) {
    if (request.method !== 'GET') throw unknownPath(request);
    return Response.json([...fleet.members.values()].map(({ unit }) => describe(unit)));
  }
  const member = fleet.members.get(name);
  if (member === undefined) throw new ControlProblem('not-found', `This simulator has no unit ${name}.`);
  if (rest.length === 0 && request.method === 'GET') return Response.json(describe(member.unit));
  if (rest[0] === 'lockers' && rest.length <= 2) {
    if (request.method === 'POST' && rest[1] === undefined) return install(request, member.unit);
    if (request.method === 'DELETE' && rest[1] !== undefined) return remove(member.unit, rest[1]);
  }
  if (request.method !== 'POST') throw unknownPath(request);
  return rest[0] === 'lockers'
    ? lockerAction(request, member.unit, rest.slice(1))
    : unitAction(request, member.unit, member.requests, rest);
}

async function unitAction(
  request: Request,
  unit: EmulatedUnit,
  requests: UnitRequestHandler,
  [action, ...rest]: readonly string[],
): Promise<Response> {
  if (rest.length > 0) throw unknownPath(request);
  switch (action) {
    case 'faults': {
      const change = await readBody(request, FaultChange);
      const unknown = (change.jammed ?? []).flatMap((id, index) =>
        findLocker(unit.model, id) === undefined
          ? [{ path: `/jammed/${index}`, message: `${unit.name} has no locker ${id}` }]
          : [],
      );
      if (unknown.length > 0) throw validationProblem(unknown);
      return Response.json(await unit.setFaults(change));
    }
    case 'walk-up': {
      const { locker, minutes } = await readBody(request, WalkUpBody);
      const order = { minutes, ...(locker === undefined ? {} : { locker }) };
      return outcome(await unit.decide((model, context) => rentAtScreen(model, order, context)));
    }
    case 'redeem': {
      const { token } = await readBody(request, RedeemBody);
      const claims = await readToken(requests, token);
      return outcome(await unit.decide((model, context) => redeemReservation(model, claims, context)));
    }
    case 'type-code': {
      const { code } = await readBody(request, TypeCodeBody);
      return outcome(await unit.decide((model, context) => typeAccessCode(model, code, context)));
    }
    case 'reboot':
      await readBody(request, EmptyBody);
      return Response.json(await unit.reboot());
    case 'wipe':
      await readBody(request, EmptyBody);
      return Response.json(await unit.wipe());
    default:
      throw unknownPath(request);
  }
}

/** A technician installs a locker in the unit. */
async function install(request: Request, unit: EmulatedUnit): Promise<Response> {
  const locker = await readBody(request, InstallBody);
  const installed = await unit.decide((model) => installLocker(model, locker));
  return installed.done ? Response.json(describeLocker(installed.locker)) : outcome(installed);
}

/** A technician removes a locker from the unit. */
async function remove(unit: EmulatedUnit, id: string): Promise<Response> {
  return outcome(await unit.decide((model) => removeLocker(model, id)));
}

async function lockerAction(
  request: Request,
  unit: EmulatedUnit,
  [id, action, ...rest]: readonly string[],
): Promise<Response> {
  const decision = action === undefined ? undefined : LOCKER_ACTIONS.get(action);
  if (id === undefined || decision === undefined || rest.length > 0) throw unknownPath(request);
  await readBody(request, EmptyBody);
  return outcome(await unit.decide((model, context) => decision(model, id, context)));
}

const LOCKER_ACTIONS = new Map<string, typeof openLocker | typeof giveBackLocker>([
  ['open', openLocker],
  ['close', closeDoor],
  ['give-back', giveBackLocker],
]);

async function readToken(requests: UnitRequestHandler, token: string) {
  const verifier = await requests.verifier();
  if (verifier === undefined) {
    throw new ControlProblem(
      'unit-rejected',
      'The unit is not registered yet, so it has no key to check a token with.',
    );
  }
  try {
    return await verifier.offlineToken(token);
  } catch (error) {
    if (!(error instanceof SignatureError)) throw error;
    throw new ControlProblem('unit-rejected', `The unit refused the token: ${error.message}.`, {
      reason: 'signature',
    });
  }
}

function outcome(result: Outcome<object>): Response {
  if (!result.done) {
    const { reason, detail } = result;
    throw new ControlProblem(reason === 'unknown-locker' ? 'not-found' : 'unit-rejected', detail, { reason });
  }
  const { done: _, ...answered } = result;
  return Response.json(answered);
}

function describe({ name, address, isOffline, faults, model }: EmulatedUnit): object {
  const { configuration, lockers } = model;
  const { epoch, lastSeq, acknowledgedSeq, recordedSeq } = model.log;
  return {
    name,
    address,
    offline: isOffline,
    faults,
    configuration,
    lockers: lockers.map(describeLocker),
    log: { epoch, lastSeq, acknowledgedSeq, recordedSeq },
  };
}

function describeLocker({ id, size, door, rental }: UnitLocker): object {
  return { id, size, door, occupiedBy: rental?.reservationId ?? rental?.rentalId ?? null };
}

function pathOf(request: Request): string[] {
  const { pathname } = new URL(request.url);
  try {
    return pathname.split('/').filter(Boolean).map(decodeURIComponent);
  } catch {
    throw unknownPath(request);
  }
}

function unknownPath(request: Request): ControlProblem {
  return new ControlProblem('not-found', `The control API has no ${request.method} ${new URL(request.url).pathname}.`);
}

/** Two servers confirm reservations of one unit at the same time, on a real NATS: no two of them get the same access code. */

import { expect, test } from 'bun:test';
import { newUnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { ReservationService } from '../../server/api/reservations/reservation-service.ts';
import { connectPlatform, quietLog } from '../support/nats.ts';
import { appendRegistration } from '../support/registration.ts';
import { HOUR_MS, NOW_MS } from '../support/scene.ts';

const UNIT = 'QC-1000';
const RESERVATIONS = 24;
/** Codes of the test, of which most are in use in the end. The first draw of every fourth reservation gives the same code. */
const CODES = 30;
const newId = () => Bun.randomUUIDv7();

test('codes are drawn anew when two servers confirm at once', async () => {
  const nats = await connectPlatform();
  const first = new Map<string, number>();
  const secrets = {
    accessCode: ({ id, accessCodeDraw = 0 }: { id: string; accessCodeDraw?: number }) =>
      String(((first.get(id) ?? 0) + accessCodeDraw) % CODES),
    of: async (reservation: { id: string; accessCodeDraw?: number }) => ({
      accessCode: secrets.accessCode(reservation),
      offlineToken: 'token',
    }),
  };
  const startServer = () => {
    const decider = new UnitDecider({
      store: new NatsEventStore(nats, newId, () => performance.now()),
      loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
      newId,
      clock: () => NOW_MS,
      random: Math.random,
      sleep: (ms) => Bun.sleep(ms),
      log: quietLog,
    });
    const service = new ReservationService({ decider, secrets, newId, clock: () => NOW_MS } as never);
    return { decider, service };
  };
  const servers = [startServer(), startServer()];
  const { decider } = startServer();
  await appendRegistration(decider, UNIT);

  const ids: string[] = [];
  for (let index = 0; index < RESERVATIONS; index += 1) {
    const commandId = newId();
    const from = toInstant(NOW_MS + index * HOUR_MS);
    const until = toInstant(NOW_MS + (index + 1) * HOUR_MS);
    await servers[0]?.service.hold(commandId, 'alice', { unit: UNIT, size: 'S', from, until });
    ids.push(`${UNIT}.${commandId}`);
    first.set(`${UNIT}.${commandId}`, index % 4);
  }
  const answers = await Promise.all(
    ids.map((reservationId, index) =>
      servers[index % 2]?.service.confirm({ commandId: newId(), customer: 'alice', reservationId }, 'pay'),
    ),
  );
  const codes = answers.map((answer) => answer?.body.accessCode);
  expect(codes).not.toContain(undefined);
  expect(new Set(codes).size).toBe(RESERVATIONS);
  // The codes that the customers were shown are those that every other server derives.
  const { booking } = await decider.getState(UNIT);
  expect(booking.open.map((reservation) => secrets.accessCode(reservation)).sort()).toEqual(
    [...codes].sort() as string[],
  );
  await nats.close();
}, 60_000);

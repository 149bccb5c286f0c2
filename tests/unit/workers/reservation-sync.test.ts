import { expect, test } from 'bun:test';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import { ReservationSync } from '../../../server/workers/reactor/reservation-sync.ts';
import { META, newDecider, newStore, register } from '../../support/decider.ts';
import { NOW_MS } from '../../support/scene.ts';
import { silentLog } from '../../support/silent-log.ts';

const UNIT = 'U-1';

test('a unit whose credentials are revoked is sent no list, and the work is not repeated', async () => {
  const store = newStore();
  await register(store);
  const decider = newDecider(store);
  let ids = 0;
  const newId = () => {
    ids += 1;
    return `id-${ids}`;
  };
  const decide = (aggregate: 'registry' | 'connectivity', draft: EventDraft) =>
    decider.decide(UNIT, aggregate, { ...META, commandId: newId() }, () => [draft]);
  let sent = 0;
  const sync = new ReservationSync({
    decider,
    commands: {
      send: async () => {
        sent += 1;
        throw new UnitUnreachableError('the unit does not answer');
      },
    },
    secrets: { accessCode: () => '000000' },
    reportedPlace: async () => undefined,
    newId,
    clock: () => NOW_MS,
    log: silentLog,
  });
  await decide('connectivity', { type: 'UnitWentOnline', data: { evidence: 'ping' } });
  expect(await sync.syncUnit(UNIT)).toMatchObject({ reason: 'the unit does not answer' });
  await decide('registry', { type: 'UnitCredentialsRevoked', data: {} });
  expect(await sync.syncUnit(UNIT)).toBe('done');
  expect(sent).toBe(1);
});

import { beforeEach, expect, test } from 'bun:test';
import { recordedSeq } from '../../../domain/device/epochs.ts';
import { LogWorld } from './log-world.ts';

const LOG_LENGTH = 9;
const BATCH_EVENTS = 2;

let world: LogWorld;
const recorded = async () => recordedSeq((await world.state()).device, world.present.id);

/** The first event is recorded, and the rest waits in four batches. */
beforeEach(async () => {
  world = new LogWorld();
  await world.register();
  world.push(1, 'arrives');
  await world.deliver(0, false);
  world.logEvents(LOG_LENGTH - 1, false);
  for (let seq = 2; seq <= LOG_LENGTH; seq += BATCH_EVENTS) world.push(BATCH_EVENTS, 'arrives');
});

test('a batch that overtook others is delayed, and its redelivery records the waiting batches before it', async () => {
  expect(world.inbox).toHaveLength(4);
  await world.deliver(3, false);
  expect(await recorded()).toBe(1);
  await world.deliver(3, false);
  expect(await recorded()).toBe(LOG_LENGTH);
  expect(world.inbox).toHaveLength(3);
});

test('a redelivered batch records the waiting batches only up to the first missing seq', async () => {
  world.inbox.splice(1, 1);
  await world.deliver(2, false);
  await world.deliver(2, false);
  expect(await recorded()).toBe(1 + BATCH_EVENTS);
  expect(world.inbox).toHaveLength(3);
});

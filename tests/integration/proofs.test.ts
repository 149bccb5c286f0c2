/** Proofs between processes, over a real NATS. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { randomUUID } from 'node:crypto';
import { ProofQueryBatcher } from '../../pinger/connectivity/proof-query-batcher.ts';
import { STATUS_FILTER } from '../../platform/liveness/pinger-status.ts';
import { type Proof, ProofExchange } from '../../platform/liveness/proof-exchange.ts';
import { TELEMETRY_FILTER } from '../../platform/liveness/telemetry-message.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { eventually } from '../support/eventually.ts';
import { connectPlatform } from '../support/nats.ts';

const AT_MS = 1_780_000_000_000;

let connections: Nats[] = [];
let exchanges: ProofExchange[] = [];

beforeAll(async () => {
  connections = await Promise.all([connectPlatform(), connectPlatform(), connectPlatform()]);
  exchanges = connections.map((nats) => new ProofExchange(nats, randomUUID));
});

afterAll(async () => {
  for (const exchange of exchanges) exchange.close();
  await Promise.all(connections.map((nats) => nats.close()));
});

function three(): [ProofExchange, ProofExchange, ProofExchange] {
  const [one, two, other] = exchanges;
  if (one === undefined || two === undefined || other === undefined) throw new Error('there are three');
  return [one, two, other];
}

test('a proof of life that one process receives reaches all others, and is not counted as telemetry', async () => {
  const [one, two] = three();
  const heard: Proof[] = [];
  const taken: string[] = [];
  const ends = [
    two.subscribe((proof) => heard.push(proof)),
    ...[TELEMETRY_FILTER, STATUS_FILTER].map((filter) =>
      (connections[2] as Nats).subscribe(filter, ({ subject }) => taken.push(subject)),
    ),
  ];
  await Promise.all(connections.map((nats) => nats.flush()));
  one.publish({ unit: 'PL-1', evidence: 'command', atMs: AT_MS });
  one.publish({ unit: 'PL-1', evidence: 'command', atMs: AT_MS + 1 });
  one.publish({ unit: 'PL-2', evidence: 'command', atMs: AT_MS });
  await eventually(() => heard.length === 2);
  expect(heard).toEqual([
    { unit: 'PL-1', evidence: 'command', atMs: AT_MS + 1 },
    { unit: 'PL-2', evidence: 'command', atMs: AT_MS },
  ]);
  expect(taken).toEqual([]);
  for (const end of ends) end();
});

test('a question for proofs is answered by the other processes only, and the newest proof counts', async () => {
  const [one, two, other] = three();
  const knows = (known: Readonly<Record<string, number>>) => (unit: string) => {
    const atMs = known[unit];
    return atMs === undefined ? undefined : { evidence: 'ping' as const, atMs };
  };
  const ends = [
    one.respond(knows({ 'PL-1': AT_MS + 9 })),
    two.respond(knows({ 'PL-1': AT_MS, 'PL-2': AT_MS })),
    other.respond(knows({ 'PL-1': AT_MS + 1 })),
  ];
  await Promise.all(connections.map((nats) => nats.flush()));
  const asked: (readonly string[])[] = [];
  const questions = new ProofQueryBatcher((units) => {
    asked.push(units);
    return one.query(units);
  });
  expect(await Promise.all(['PL-1', 'PL-2', 'PL-3'].map((unit) => questions.query(unit)))).toEqual([
    AT_MS + 1,
    AT_MS,
    undefined,
  ]);
  expect(asked).toEqual([['PL-1', 'PL-2', 'PL-3']]);
  for (const end of ends) end();
});

test('a question that cannot be sent has no answer', async () => {
  const questions = new ProofQueryBatcher(async () => {
    throw new Error('NATS is away');
  });
  expect(await questions.query('PL-1')).toBeUndefined();
});

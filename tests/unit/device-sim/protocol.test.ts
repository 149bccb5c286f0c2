import { expect, test } from 'bun:test';
import { createHash, createHmac } from 'node:crypto';
import { join, resolve } from 'node:path';
import { Value } from '@sinclair/typebox/value';
import { definitionOf, isEventType } from '../../../domain/events/catalogue.ts';
import { BatchEvent, BatchHeader, FetchPageHeader, FetchRequest } from '../../../domain/unit-protocol/batch.ts';
import { CommandAnswer, PingReply } from '../../../domain/unit-protocol/commands.ts';
import { UnitVerifier } from '../../../platform/unit-protocol/signatures.ts';
import {
  COMMAND,
  NOW_MS,
  PROSE,
  protocolExample,
  publicPlatformKey,
  TOKEN_CLAIMS,
  UNIT,
  UNIT_KEY,
} from '../../support/protocol-example.ts';

const DOCUMENT = join(resolve(import.meta.dir, '..', '..', '..'), 'docs', 'unit-protocol.md');

test('docs/unit-protocol.md shows exactly what the code computes, and nothing else in its code blocks', async () => {
  const text = await Bun.file(DOCUMENT).text();
  const shown = [...text.matchAll(/^```\w+\n([\s\S]*?)\n```$/gm)].map((block) => block[1] ?? '');
  const example = await protocolExample();
  const { fetch: page, fetchToken, ...others } = example;
  const blocks = Object.entries(others).filter(([name]) => !PROSE.has(name));
  expect(shown.sort()).toEqual([...blocks.map(([, block]) => block), `${page}\n${fetchToken}`].sort());
  for (const name of PROSE) expect(text).toContain(`\`${example[name]}\``);
});

test('the example verifies with the public key and the unit key alone', async () => {
  const example = await protocolExample();
  const verifier = await UnitVerifier.create(publicPlatformKey(), UNIT);
  const { jws } = JSON.parse(example.commandBody ?? '') as { jws: string };
  expect(await verifier.command(jws, NOW_MS)).toEqual(COMMAND);
  await expect(verifier.command(jws, NOW_MS + 151_000)).rejects.toThrow('expired');
  expect(await verifier.offlineToken(example.offlineToken ?? '')).toEqual(TOKEN_CLAIMS);
  const token = (example.fetchToken ?? '').replace('Authorization: Bearer ', '');
  expect((await verifier.fetch(token, NOW_MS)).recorded).toMatch(/:41$/);

  const mac = (text = '') => createHmac('sha256', UNIT_KEY).update(text).digest('hex').slice(0, 32);
  expect(example.ping).toEndWith(`mac=${mac(example.pingMacInput)}`);
  expect(example.firstPing).toEndWith(`mac=${mac(example.firstPingMacInput)}`);
  expect(example.pingReply).toEndWith(`"mac":"${mac(example.pingReplyMacInput)}"}`);
  const hash = (text = '') => createHash('sha256').update(text).digest('hex');
  expect(hash(example.configuration)).toBe(example.configurationHash ?? '');
  expect(hash(example.configurationWithTexts)).toBe(example.configurationWithTextsHash ?? '');
});

test('the example has the shapes of the schemas', async () => {
  const example = await protocolExample();
  expect(Value.Check(PingReply, JSON.parse(example.pingReply ?? ''))).toBe(true);
  expect(Value.Check(FetchRequest, JSON.parse(example.fetchRequest ?? ''))).toBe(true);
  for (const head of [BatchHeader, FetchPageHeader]) {
    expect(Value.Check(head, JSON.parse(example.fetched ?? ''))).toBe(true);
  }
  expect(Value.Check(CommandAnswer, JSON.parse(example.commandAnswer ?? ''))).toBe(true);
  const { events } = JSON.parse(example.batch ?? '') as { events: unknown[] };
  for (const event of [...events, JSON.parse(example.stateReport ?? '')] as unknown[]) {
    if (!Value.Check(BatchEvent, event) || !isEventType(event.type)) throw new Error('that is no event');
    expect(Value.Check(definitionOf(event.type).schema, event.data)).toBe(true);
  }
});

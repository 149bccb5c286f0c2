/** Every write of the API with every kind of odd value: it is refused with its field, or stored, listed, exported and sent unchanged. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import pLimit from 'p-limit';
import { apiWithoutServices } from '../support/api.ts';
import { eventually } from '../support/eventually.ts';
import { verdictOf } from '../support/odd-answers.ts';
import { OddAttempts, OddShares } from '../support/odd-attempts.ts';
import { readEverything } from '../support/odd-neighbours.ts';
import { oddTexts } from '../support/odd-values.ts';
import { OddWorld, REFUSED_UNIT, type SentRequest, SIMULATED, type ValidRequest } from '../support/odd-world.ts';
import { type ApiOperation, operationsOf } from '../support/openapi-fields.ts';
import { seededRandom } from '../support/random.ts';

const CONCURRENT_REQUESTS = 4;
const MAX_SHOWN_FAILURES = 25;
/**
 * Operations whose own answer has to show the text. No other shows the name of an API key, and the reason of a rollout's status is shown until
 * its next status, which the platform may set at once.
 */
const SHOWN_ONCE: ReadonlySet<string> = new Set(['createApiKey', 'resumeRollout', 'abortRollout']);
const oddSeed = seededRandom();
const shares = new OddShares(oddSeed);
const oddAttempts = new OddAttempts(shares);

const documented = await apiWithoutServices().handle(new Request('http://localhost/swagger/json'));
const writes = operationsOf(await documented.json()).filter(({ body }) => body !== undefined);

let world: OddWorld;
/** The last position that a write has answered. */
let position = 0;
/** The texts that were accepted, by operation and field. */
const accepted: { readonly operation: string; readonly field: string; readonly text: string }[] = [];

beforeAll(async () => {
  world = await OddWorld.start('odd-bodies');
}, 120_000);

afterAll(() => world.stop());

test('the server documents the operations that are tried', () => {
  const ids = world.operations.filter(({ body }) => body !== undefined).map(({ id }) => id);
  expect(ids).toEqual(writes.map(({ id }) => id));
});

/** A request with one odd value. */
interface OddRequest {
  readonly field: string;
  readonly value: string;
  readonly text: string | undefined;
  readonly of: (base: ValidRequest) => SentRequest;
}

/** Sends all requests, each on the base of a valid one, and notes the texts that were accepted. @returns what was wrong */
async function failuresOf(operation: ApiOperation, requests: readonly OddRequest[]): Promise<string[]> {
  const failures: string[] = [];
  const unused: ValidRequest[] = [];
  const tryOne = async ({ field, value, text, of }: OddRequest) => {
    const base = unused.pop() ?? (await world.valid(operation));
    const answer = await world.sendUntilAvailable(operation, of(base));
    position = Math.max(position, Number(answer.headers.get('lockfleet-position') ?? 0));
    const verdict = verdictOf(operation, answer, field);
    // A refused request has changed nothing, so that the next one can begin from the same.
    if (verdict.is !== 'accepted') unused.push(base);
    if (verdict.is === 'wrong') failures.push(`${field} = ${value.slice(0, 100)}: ${verdict.why}`);
    if (verdict.is !== 'accepted' || text === undefined) return;
    if (!SHOWN_ONCE.has(operation.id)) accepted.push({ operation: operation.id, field, text });
    else if (!answer.text.includes(JSON.stringify(text))) failures.push(`${field} = ${value}: ${answer.text}`);
  };
  const limit = pLimit(CONCURRENT_REQUESTS);
  await Promise.all(requests.map((request) => limit(() => tryOne(request))));
  return failures.slice(0, MAX_SHOWN_FAILURES);
}

test.each(writes.map((operation): [string, ApiOperation] => [operation.id, operation]))(
  '%s refuses an odd value in its body with the field, or accepts it',
  async (_id, operation) => {
    const valid = await world.valid(operation);
    const answer = await world.sendUntilAvailable(operation, { ...valid, json: JSON.stringify(valid.body) });
    expect([answer.text, verdictOf(operation, answer, '').is]).toEqual([answer.text, 'accepted']);
    const requests = oddAttempts.on(operation.body ?? {}).map(({ json, ...attempt }) => ({
      ...attempt,
      of: (base: ValidRequest) => ({ ...base, json: json(base.body) }),
    }));
    expect(await failuresOf(operation, requests)).toEqual([]);
  },
  300_000,
);

test('a write refuses an odd text in its query with the parameter, or accepts it', async () => {
  const failures: string[] = [];
  for (const operation of world.operations.filter(({ method }) => method !== 'GET')) {
    for (const { name, schema, in: place } of operation.parameters) {
      const isFree = schema.type === 'string' && schema.pattern === undefined && schema.enum === undefined;
      if (place !== 'query' || !isFree) continue;
      // A URL has no half surrogate pairs.
      const requests = shares.of('query', oddTexts(oddSeed.seed)).map((text) => ({
        field: `/query/${name}`,
        value: JSON.stringify(text),
        text: text.toWellFormed(),
        of: ({ params, query }: ValidRequest) => ({ params, query: { ...query, [name]: text.toWellFormed() } }),
      }));
      failures.push(...(await failuresOf(operation, requests)));
    }
  }
  expect(failures).toEqual([]);
  expect(accepted.filter(({ operation }) => operation === 'retireUnit').length).toBeGreaterThan(5);
}, 300_000);

test('everything can be read afterwards, and shows what was accepted as it was sent', async () => {
  const { byOperation, exports, failures } = await readEverything(world, position);
  expect(failures).toEqual([]);
  const lost = accepted.filter(({ text }) => ![...byOperation.values()].some((texts) => texts.has(text)));
  expect(lost).toEqual([]);
  const recorded = accepted.filter(({ text }) => byOperation.get('listEvents')?.has(text) === true);
  expect(recorded.length).toBeGreaterThan(30);
  for (const [name, texts] of exports) {
    if (!name.startsWith('listEvents ')) continue;
    expect({ name, lost: recorded.filter(({ text }) => !texts.has(text)) }).toEqual({ name, lost: [] });
  }
}, 300_000);

test('nothing is parked, and no dead letter is open', async () => {
  expect(await world.everyItem('/v1/work')).toEqual([]);
  const letters = await world.everyItem('/v1/dead-letters?status=open');
  expect(letters.filter(({ unit }) => !String(unit).startsWith(REFUSED_UNIT))).toEqual([]);
  const { body } = await world.ops.get('/v1/projections');
  expect(JSON.stringify(body)).not.toMatch(/"parked\w*":[1-9]/);
});

test('the unit has its configuration and its reservations', async () => {
  await eventually(async () => (await world.ops.get(`/v1/units/${SIMULATED}/config`)).body.status === 'applied', {
    timeoutMs: 120_000,
  });
  await eventually(
    async () => {
      const confirmed = await world.everyItem(`/v1/reservations?unit=${SIMULATED}&status=confirmed`);
      return confirmed.length > 0 && confirmed.every(({ unitAck }) => unitAck === 'accepted');
    },
    { timeoutMs: 120_000 },
  );
}, 300_000);

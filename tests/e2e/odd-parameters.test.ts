/** Every parameter of the API with every kind of odd value, as a client would send it and as raw bytes: it is refused with its name, or works. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import pLimit from 'p-limit';
import { text } from '../support/client.ts';
import { verdictOf } from '../support/odd-answers.ts';
import { OddShares } from '../support/odd-attempts.ts';
import { ODD_PATH_BYTES, oddCursors, oddTexts } from '../support/odd-values.ts';
import { OddWorld, SIMULATED, targetOf } from '../support/odd-world.ts';
import type { ApiOperation, Parameter } from '../support/openapi-fields.ts';
import { seededRandom } from '../support/random.ts';

const CONCURRENT_REQUESTS = 4;
const MAX_SHOWN_FAILURES = 25;
/** The statuses of Bun's server for a head that is no HTTP, or too long. */
const REFUSED_HEADS: ReadonlySet<number> = new Set([400, 431, 505]);
const random = seededRandom();

let world: OddWorld;

beforeAll(async () => {
  world = await OddWorld.start('odd-parameters');
}, 120_000);

afterAll(() => world.stop());

/** Runs all attempts, and returns what was wrong. */
async function failuresOf(attempts: readonly (() => Promise<string | undefined>)[]): Promise<string[]> {
  const limit = pLimit(CONCURRENT_REQUESTS);
  const failures = await Promise.all(attempts.map((attempt) => limit(attempt)));
  return failures.filter((failure) => failure !== undefined).slice(0, MAX_SHOWN_FAILURES);
}

function parametersIn(...places: readonly Parameter['in'][]): { operation: ApiOperation; parameter: Parameter }[] {
  return world.operations.flatMap((operation) =>
    operation.parameters.filter((one) => places.includes(one.in)).map((parameter) => ({ operation, parameter })),
  );
}

/** The bytes of a text in UTF-8, one character for each. */
function bytesOf(odd: string): string {
  return Buffer.from(odd).toString('latin1');
}

test('in a path or a query', async () => {
  const shares = new OddShares(random);
  const attempts = parametersIn('path', 'query').flatMap(({ operation, parameter }) => {
    const { name, schema } = parameter;
    const place = parameter.in === 'path' ? 'params' : 'query';
    return shares.of(JSON.stringify([place, schema]), oddTexts(random.seed)).map((odd) => async () => {
      const { params, query, body } = world.harmless(operation, name);
      const changed = { ...(place === 'params' ? params : query), [name]: odd };
      const [changedParams, changedQuery] = place === 'params' ? [changed, query] : [params, changed];
      const json = body === undefined ? undefined : JSON.stringify(body);
      const answer = await world.sendRaw(operation, targetOf(operation, changedParams, changedQuery), {}, json);
      if (REFUSED_HEADS.has(answer.status) && odd.length > 10_000) return undefined;
      const verdict = verdictOf({ bodyType: undefined }, answer, `/${place}/${name}`);
      return verdict.is === 'wrong'
        ? `${operation.id} ${place} ${name} ${JSON.stringify(odd).slice(0, 100)}: ${verdict.why}`
        : undefined;
    });
  });
  expect(attempts.length).toBeGreaterThan(500);
  expect(await failuresOf(attempts)).toEqual([]);
}, 400_000);

test('in a path, as raw bytes', async () => {
  const attempts = parametersIn('path').flatMap(({ operation, parameter }) =>
    ODD_PATH_BYTES.map((bytes) => async () => {
      const { params, query, body } = world.harmless(operation);
      const target = targetOf(operation, { ...params, [parameter.name]: '@' }, query).replace('%40', () => bytes);
      const json = body === undefined ? undefined : JSON.stringify(body);
      const { status, text } = await world.sendRaw(operation, target, {}, json);
      const isRefused = [404, 409, 412, 422].includes(status) || REFUSED_HEADS.has(status);
      return isRefused ? undefined : `${operation.id} ${target}: ${status} ${text.slice(0, 200)}`;
    }),
  );
  expect(await failuresOf(attempts)).toEqual([]);
}, 200_000);

test('as a cursor that no list has issued', async () => {
  const lists = parametersIn('query').filter(({ parameter }) => parameter.name === 'cursor');
  expect(lists.length).toBeGreaterThan(8);
  const attempts = lists.flatMap(({ operation }) => {
    const sorts = operation.parameters.find(({ name }) => name === 'sort')?.schema.enum ?? [undefined];
    return sorts.flatMap((sort) =>
      oddCursors(sort).map((keys) => async () => {
        const { params, query } = world.harmless(operation);
        const cursor = Buffer.from(JSON.stringify(keys)).toString('base64url');
        const sorted = sort === undefined ? query : { ...query, sort };
        // The lists of rollouts and projections name what exists, so that the cursor is read.
        const answer = await world.send(operation, {
          params: await withExisting(operation, params),
          query: { ...sorted, cursor },
        });
        const verdict = verdictOf(operation, answer, '/query/cursor');
        return verdict.is === 'wrong' ? `${operation.id} ${sort} ${JSON.stringify(keys)}: ${verdict.why}` : undefined;
      }),
    );
  });
  expect(await failuresOf(attempts)).toEqual([]);
}, 200_000);

let rollout: Promise<string> | undefined;

async function withExisting({ path }: ApiOperation, params: Readonly<Record<string, string>>) {
  if (path.startsWith('/v1/projections/')) return { ...params, name: 'units' };
  if (!path.startsWith('/v1/config-rollouts/')) return params;
  const body = { selection: { names: [SIMULATED] }, changes: { minimumMinutes: 20 } };
  rollout ??= world.ops.post('/v1/config-rollouts', body).then((answer) => text(answer, 'id'));
  return { ...params, id: await rollout };
}

test('in a header', async () => {
  const shares = new OddShares(random);
  const attempts = parametersIn('header').flatMap(({ operation, parameter: { name, schema } }) =>
    shares.of(JSON.stringify(schema), oddTexts(random.seed)).map((odd) => async () => {
      const { params, query, body } = world.harmless(operation);
      const json = body === undefined ? undefined : JSON.stringify(body);
      const answer = await world.sendRaw(operation, targetOf(operation, params, query), { [name]: bytesOf(odd) }, json);
      if (REFUSED_HEADS.has(answer.status)) return undefined;
      const verdict = verdictOf({ bodyType: undefined }, answer, `/headers/${name}`);
      return verdict.is === 'wrong'
        ? `${operation.id} ${name} ${JSON.stringify(odd).slice(0, 100)}: ${verdict.why}`
        : undefined;
    }),
  );
  expect(await failuresOf(attempts)).toEqual([]);
}, 200_000);

test('as an Idempotency-Key that is accepted, which answers a repeat as the first request', async () => {
  const operation = world.operations.find(({ id }) => id === 'planMaintenance');
  if (operation === undefined) throw new Error('There is no operation planMaintenance.');
  const attempts = new OddShares(random).of('key', oddTexts(random.seed)).map((odd) => async () => {
    const { body } = world.harmless(operation);
    const target = targetOf(operation, { name: SIMULATED }, {});
    const send = () => world.sendRaw(operation, target, { 'idempotency-key': bytesOf(odd) }, JSON.stringify(body));
    const [first, second] = [await send(), await send()];
    if (first.status !== 201)
      return first.status < 500 ? undefined : `${JSON.stringify(odd)}: ${first.status} ${first.text}`;
    // HTTP trims a value, and one that is empty is none. The answer that was kept may have its members in another order.
    const isSame = Bun.deepEquals(JSON.parse(first.text), JSON.parse(second.text));
    return isSame || odd.trim() === '' ? undefined : `${JSON.stringify(odd)}: ${first.text}, then ${second.text}`;
  });
  expect(await failuresOf(attempts)).toEqual([]);
}, 200_000);

test('as an Authorization header', async () => {
  const operation = world.operations.find(({ id }) => id === 'listUnits');
  if (operation === undefined) throw new Error('There is no operation listUnits.');
  const attempts = new OddShares(random).of('token', oddTexts(random.seed)).flatMap((odd) =>
    [odd, `Bearer ${odd}`].map((value) => async () => {
      const { status, text } = await world.sendRaw(operation, '/v1/units', { authorization: bytesOf(value) });
      return status === 401 || REFUSED_HEADS.has(status)
        ? undefined
        : `${JSON.stringify(value).slice(0, 100)}: ${status} ${text}`;
    }),
  );
  expect(await failuresOf(attempts)).toEqual([]);
}, 200_000);

test('as the subject of a valid token: it is refused, or stands in the log as it is', async () => {
  const find = (id: string) => world.operations.find((operation) => operation.id === id);
  const [change, list] = [find('updateUnit'), find('listReservations')];
  if (change === undefined || list === undefined) throw new Error('The API lacks an operation.');
  let recorded = 0;
  const attempts = new OddShares(random).of('subject', oddTexts(random.seed)).map((odd, index) => async () => {
    const headers = { authorization: await world.token('ops', odd) };
    const body = JSON.stringify({ displayName: `changed ${index}` });
    const changed = await world.sendUntilAvailable(change, {
      params: { name: SIMULATED },
      query: {},
      headers,
      json: body,
    });
    const customer = { authorization: await world.token('customer', odd) };
    const listed = await world.sendUntilAvailable(list, { params: {}, query: {}, headers: customer });
    const statuses = [changed.status, listed.status];
    if (!statuses.every((status) => status === 200)) {
      return statuses.every((status) => status === 401 || REFUSED_HEADS.has(status))
        ? undefined
        : `${JSON.stringify(odd)}: ${statuses} ${changed.text} ${listed.text}`;
    }
    recorded += 1;
    const minPosition = changed.headers.get('lockfleet-position');
    const query = new URLSearchParams({ actor: `ops:${odd}`, minPosition: String(minPosition) });
    const { body: page } = await world.ops.getOnceShown(`/v1/events?${query}`);
    return JSON.stringify(page).includes(JSON.stringify(`ops:${odd}`))
      ? undefined
      : `${JSON.stringify(odd)}: ${JSON.stringify(page)}`;
  });
  expect(await failuresOf(attempts)).toEqual([]);
  expect(recorded).toBeGreaterThan(5);
}, 200_000);

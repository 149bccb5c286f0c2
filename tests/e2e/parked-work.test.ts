/** Parked work from outside: operators list it, retry it, and see it in the metrics. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { eventSubject } from '../../platform/nats/subjects.ts';
import { ParkedWorkStore } from '../../platform/parked-work/parked-work-store.ts';
import type { WorkQueue } from '../../platform/parked-work/queues.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { freePort } from '../../platform/process/ports.ts';
import { eventually } from '../support/eventually.ts';
import { metricsWhen } from '../support/metrics.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const HOUR_MS = 3_600_000;
const NOWHERE = '00000000-0000-4000-8000-000000000000';
const metricsPort = freePort();
let platform: Platform;
let postgres: Postgres;
let authorization: string;

interface Item {
  readonly id: string;
  readonly unit: string;
}
interface Page {
  readonly items: readonly Item[];
  readonly nextCursor: string | null;
  readonly total?: number;
}

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'parked-work', env: { METRICS_PORT: '', HTTP_CHECK_ANSWERS: 'true' } });
  platform.startServer({ HTTP_PORT: String(freePort()), METRICS_PORT: String(metricsPort), ROLES: 'api' });
  postgres = new Postgres({ url: platform.postgres.url, applicationName: 'parked work', maxConnections: 1 });
  authorization = await platform.token('ops', 'night shift');
}, 120_000);

afterAll(async () => {
  await postgres.close();
  await platform.stop();
});

/** Parks work that the queue could do now, and retries by itself only after an hour. */
async function park(unit: string, queue: WorkQueue = 'reactor-facts'): Promise<void> {
  await new ParkedWorkStore(postgres.sql).park({
    ...{ queue, unit, job: 'device', stream: 'EVENTS', subject: eventSubject(unit, 'device') },
    ...{ sequence: 1, attempts: 1, retryInMs: HOUR_MS },
    ...{ reason: 'The same attempt fails again.', error: 'too many events' },
  });
}

const WORK = '/v1/work';

async function list(query: string): Promise<Page> {
  const response = await fetch(`${platform.api}${WORK}?${query}`, { headers: { authorization }, keepalive: false });
  expect(response.status).toBe(200);
  return (await response.json()) as Page;
}

function retry(id: string, key: string, token = authorization): Promise<Response> {
  const headers = { authorization: token, 'idempotency-key': key };
  return fetch(`${platform.api}${WORK}/${id}/retry`, { method: 'POST', headers, keepalive: false });
}

test('operators list parked work page by page, and filter it by unit and queue', async () => {
  for (const unit of ['LIST-1', 'LIST-2', 'LIST-3']) await park(unit, 'configuration-push');
  await park('LIST-1', 'configuration');
  const first = await list('limit=3&count=true');
  expect(first.total).toBe(4);
  expect(first.items.map(({ unit }) => unit)).toEqual(['LIST-1', 'LIST-3', 'LIST-2']);
  const second = await list(`limit=3&cursor=${first.nextCursor}`);
  expect(second.items.map(({ unit }) => unit)).toEqual(['LIST-1']);
  expect(second.nextCursor).toBeNull();
  expect((await list('queue=configuration')).items).toMatchObject([
    {
      ...{ unit: 'LIST-1', queue: 'configuration', job: 'device', attempts: 1 },
      ...{ reason: 'The same attempt fails again.', error: 'too many events' },
    },
  ]);
  expect((await list('unit=LIST-2&count=true')).total).toBe(1);
  const refused = await fetch(`${platform.api}/v1/work?queue=nothing`, {
    headers: { authorization },
    keepalive: false,
  });
  expect(refused.status).toBe(422);
  const customer = await platform.token('customer', 'alice');
  const forbidden = await fetch(`${platform.api}/v1/work`, { headers: { authorization: customer }, keepalive: false });
  expect(forbidden.status).toBe(403);
}, 60_000);

test('work that an operator retries is done by its queue and leaves the list and the metrics', async () => {
  await park('RETRIED');
  const gauge = 'lockfleet_parked_work{queue="reactor-facts"}';
  const counted = await metricsWhen(metricsPort, (values) => values.get(gauge) === 1);
  expect(counted.get('lockfleet_parked_work{queue="ingest"}')).toBe(0);
  expect(counted.get('lockfleet_work_parked_total{queue="reactor-sync"}')).toBe(0);
  expect(counted.get('lockfleet_work_retries_total{queue="reactor-sync"}')).toBe(0);
  const [{ id } = { id: '' }] = (await list('unit=RETRIED')).items;
  const answer = await retry(id, 'retry-1');
  expect(answer.status).toBe(202);
  const body = await answer.json();
  expect(body).toMatchObject({ id, unit: 'RETRIED' });
  await eventually(async () => (await list('unit=RETRIED')).items.length === 0);
  // The same key answers the same, and another one that the work is gone.
  const again = await retry(id, 'retry-1');
  expect(again.status).toBe(202);
  expect(await again.json()).toEqual(body);
  expect((await retry(id, 'retry-2')).status).toBe(404);
  expect((await retry(NOWHERE, 'retry-3')).status).toBe(404);
  expect((await retry('no-id', 'retry-4')).status).toBe(422);
  expect((await retry(NOWHERE, 'retry-5', await platform.token('customer', 'alice'))).status).toBe(403);
  await metricsWhen(metricsPort, (values) => values.get(gauge) === 0);
}, 60_000);

import { expect, test } from 'bun:test';
import type { HealthChecks } from '../../../server/api/health/routes.ts';
import { apiWithoutServices } from '../../support/api.ts';

/** Composing the API takes seconds on a busy machine. */
const TIMEOUT_MS = 60_000;

async function readiness(checks: HealthChecks) {
  const response = await apiWithoutServices({ checks }).handle(new Request('http://localhost/readyz'));
  return { status: response.status, retryAfter: response.headers.get('retry-after'), body: await response.json() };
}

test(
  'a server whose parts work is ready',
  async () => {
    expect(await readiness({ nats: async () => [], postgres: async () => [] })).toEqual({
      status: 200,
      retryAfter: null,
      body: { status: 'ready', checks: { nats: true, postgres: true }, problems: [] },
    });
  },
  TIMEOUT_MS,
);

test(
  'a server that is not ready says which parts do not work and why, also when a check fails or does not end',
  async () => {
    const checks: HealthChecks = {
      nats: async () => [],
      postgres: async () => {
        throw new Error('connect ECONNREFUSED 10.0.0.1:5432');
      },
      readModels: async () => ['The read model bookings is missing.', 'The read model units is missing.'],
      slow: () => new Promise(() => undefined),
    };
    const { status, retryAfter, body } = await readiness(checks);
    expect(status).toBe(503);
    expect(Number(retryAfter)).toBeGreaterThan(0);
    expect(body).toEqual({
      status: 'not-ready',
      checks: { nats: true, postgres: false, readModels: false, slow: false },
      problems: [
        // Anyone may ask, so the answer says nothing of hosts.
        { check: 'postgres', detail: 'The check failed; the log of this server has the cause.' },
        { check: 'readModels', detail: 'The read model bookings is missing.' },
        { check: 'readModels', detail: 'The read model units is missing.' },
        { check: 'slow', detail: 'There was no answer within 1000 ms.' },
      ],
    });
  },
  TIMEOUT_MS,
);

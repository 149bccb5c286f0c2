import { expect, test } from 'bun:test';
import { ConfigError, loadConfig } from '../../platform/config/config.ts';

function mistakesOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.mistakes;
    throw error;
  }
}

test.each(['999', '86400001', '-1000', '1000.5', '1e4', '1 000', 'a minute'])(
  'FETCH_INTERVAL_MS cannot be %p',
  (text) => {
    expect(mistakesOf({ FETCH_INTERVAL_MS: text })).toEqual([
      `FETCH_INTERVAL_MS must be a whole number from 1000 to 86400000, not "${text}"`,
    ]);
  },
);

test.each([
  [{}, 60_000],
  [{ FETCH_INTERVAL_MS: '' }, 60_000],
  [{ FETCH_INTERVAL_MS: '1000' }, 1_000],
  [{ FETCH_INTERVAL_MS: '86400000' }, 86_400_000],
])('with %p, units are asked every %d ms', (env, intervalMs) => {
  expect(loadConfig(env).fetchIntervalMs).toBe(intervalMs);
});

test('metrics have a port only where one is set', () => {
  expect(loadConfig({}).metricsPort).toBeUndefined();
  expect(loadConfig({ METRICS_PORT: '9400' }).metricsPort).toBe(9_400);
  expect(mistakesOf({ METRICS_PORT: '0' })).toEqual(['METRICS_PORT must be a whole number from 1 to 65500, not "0"']);
});

test('four customers a minute walk up to the simulated fleet unless SIM_CUSTOMERS names another number', () => {
  expect(loadConfig({}).sim.customersPerMinute).toBe(4);
  expect(loadConfig({ SIM_CUSTOMERS: '0' }).sim.customersPerMinute).toBe(0);
  expect(mistakesOf({ SIM_CUSTOMERS: '-1' })).toEqual([
    'SIM_CUSTOMERS must be a whole number from 0 to 60000, not "-1"',
  ]);
});

test('log lines are json or pretty, and without a setting the terminal decides', () => {
  expect(loadConfig({}).logFormat).toBeUndefined();
  expect(loadConfig({ LOG_FORMAT: 'pretty' }).logFormat).toBe('pretty');
  expect(mistakesOf({ LOG_FORMAT: 'text' })).toEqual(['LOG_FORMAT must be json or pretty, not "text"']);
});

test('every mistake is named, each with its setting', () => {
  const mistakes = mistakesOf({ FETCH_INTERVAL_MS: '0', SHARDS: '7-0', ROLES: 'api,fetching' });
  expect(mistakes.map((mistake) => mistake.split(' ')[0])).toEqual(
    expect.arrayContaining(['FETCH_INTERVAL_MS', 'SHARDS', 'ROLES']),
  );
  expect(mistakes).toHaveLength(3);
});

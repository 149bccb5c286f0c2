import { expect, test } from 'bun:test';
import { ConfigError } from '../../../platform/config/config.ts';
import { Metrics, type Source, startMetrics } from '../../../platform/observability/metrics.ts';
import { freePort } from '../../../platform/process/ports.ts';
import { valuesOf } from '../../support/metrics.ts';
import { quietLog } from '../../support/nats.ts';

const FAMILIES = {
  shelves: { type: 'gauge', help: 'Shelves' },
  parcels_total: { type: 'counter', help: 'Parcels', label: 'size' },
} as const;

function source(name: string, read: Source<keyof typeof FAMILIES>['read']): Source<keyof typeof FAMILIES> {
  return { name, families: FAMILIES, read };
}

test('every scrape has the current values of the source', async () => {
  const metrics = new Metrics(quietLog);
  const answers = [
    { shelves: 4, parcels_total: { small: 7, 'a "b"\\c': 1 } },
    { shelves: 3, parcels_total: { small: 9 } },
  ];
  metrics.add(source('depot', () => answers.shift() ?? {}));
  const first = valuesOf(await metrics.text());
  expect(first.get('lockfleet_shelves')).toBe(4);
  expect(first.get('lockfleet_parcels_total{size="small"}')).toBe(7);
  expect(first.get('lockfleet_parcels_total{size="a \\"b\\"\\\\c"}')).toBe(1);
  expect(first.get('process_resident_memory_bytes')).toBeGreaterThan(1_000_000);
  const second = valuesOf(await metrics.text());
  expect(second.get('lockfleet_shelves')).toBe(3);
  expect(second.get('lockfleet_parcels_total{size="small"}')).toBe(9);
  expect([...second.keys()].filter((key) => key.startsWith('lockfleet_parcels_total'))).toHaveLength(1);
});

test('a counter exists at 0 for each known value of its label before the first occurrence', async () => {
  const metrics = new Metrics(quietLog);
  const errors_total = { type: 'counter', help: 'Errors', label: 'status', labelValues: ['500', '503'] } as const;
  const read = () => ({ errors_total: { 503: 2 } });
  metrics.add({ name: 'api', families: { errors_total }, read });
  const values = valuesOf(await metrics.text());
  expect(values.get('lockfleet_errors_total{status="500"}')).toBe(0);
  expect(values.get('lockfleet_errors_total{status="503"}')).toBe(2);
});

test('a source that fails, or never answers, has no values; the others and the process have theirs', async () => {
  const metrics = new Metrics(quietLog);
  let isBroken = true;
  metrics.add({
    name: 'broken',
    families: { lag_commits: { type: 'gauge', help: 'Lag' } },
    read: () => {
      if (isBroken) throw new Error('no database');
      return { lag_commits: 5 };
    },
  });
  metrics.add({
    name: 'silent',
    families: { silence: { type: 'gauge', help: 'Silence' } },
    read: () => (isBroken ? new Promise<never>(() => undefined) : {}),
  });
  metrics.add(source('depot', () => ({ shelves: 4 })));
  const values = valuesOf(await metrics.text());
  expect(values.get('lockfleet_shelves')).toBe(4);
  expect(values.has('lockfleet_lag_commits{}')).toBe(false);
  expect(values.get('lockfleet_source_failed{source="broken"}')).toBe(1);
  expect(values.get('lockfleet_source_failed{source="silent"}')).toBe(1);
  expect(values.get('lockfleet_source_failed{source="depot"}')).toBe(0);
  isBroken = false;
  const later = valuesOf(await metrics.text());
  expect(later.get('lockfleet_lag_commits')).toBe(5);
  expect(later.get('lockfleet_source_failed{source="broken"}')).toBe(0);
}, 10_000);

test('only GET /metrics answers, and a port that is in use is refused as a wrong METRICS_PORT', async () => {
  const port = freePort();
  const settings = { http: { host: '127.0.0.1' }, metricsPort: port };
  const first = startMetrics(settings, quietLog);
  try {
    const at = async (path: string, method = 'GET') =>
      (await fetch(`http://127.0.0.1:${port}${path}`, { method, keepalive: false })).status;
    expect(await at('/metrics')).toBe(200);
    expect(await at('/metrics', 'POST')).toBe(404);
    expect(await at('/')).toBe(404);
    expect(() => startMetrics(settings, quietLog)).toThrow(ConfigError);
    expect(() => startMetrics(settings, quietLog)).toThrow(`METRICS_PORT ${port} on 127.0.0.1 is in use`);
  } finally {
    await first?.end();
  }
  expect(startMetrics({ ...settings, metricsPort: undefined }, quietLog)).toBeUndefined();
});

/**
 * The metrics of a process for Prometheus: those of the process itself, and those of its sources.
 *
 * A source is a part of the process that keeps counters or gauges. It is read at each scrape. A source that fails or is slow has
 * no values in that scrape, and `lockfleet_source_failed` names it. The other sources are not affected.
 */

import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { ConfigError } from '../config/config.ts';
import type { Log } from './log.ts';

/** A scrape waits for a source this long; Prometheus itself gives up after ten seconds. */
const READ_TIMEOUT_MS = 2_000;
const IDLE_TIMEOUT_S = 10;
const PATH = '/metrics';

export interface Family {
  /** `counter`: grows until the process ends; its name ends in `_total`. */
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  /** The name of its label. @default no label: the family has one value */
  readonly label?: string;
  /**
   * Values of the label that are known before they occur. A counter exists at 0 for each of them, so that the first error is
   * seen as an increase. @default none
   */
  readonly labelValues?: readonly string[];
}

/** A number, or a number for each value of the label. A family that is missing has no value. */
export type Reading<Name extends string> = { readonly [_ in Name]?: number | Readonly<Record<string, number>> };

export interface Source<Name extends string> {
  readonly name: string;
  /** Families by name, without the prefix `lockfleet_` and with the unit last. */
  readonly families: Readonly<Record<Name, Family>>;
  /** Reads the present values. May throw. */
  readonly read: () => Reading<Name> | Promise<Reading<Name>>;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #failed: Gauge<'source'>;
  readonly #refreshes: (() => Promise<void>)[] = [];
  readonly #log: Log;
  /** Concurrent scrapes share one answer. */
  #answer: Promise<string> | undefined;

  constructor(log: Log) {
    this.#log = log;
    collectDefaultMetrics({ register: this.#registry });
    this.#failed = new Gauge({
      name: 'lockfleet_source_failed',
      help: '1 while a source of metrics could not be read',
      labelNames: ['source'],
      registers: [this.#registry],
    });
  }

  /** Adds a source, which is read at each scrape. */
  add<Name extends string>({ name, families, read }: Source<Name>): void {
    const metrics = new Map<Name, Counter | Gauge>();
    for (const family of keysOf(families)) metrics.set(family, this.#register(family, families[family]));
    this.#failed.set({ source: name }, 0);
    this.#refreshes.push(async () => {
      for (const [family, metric] of metrics) resetMetric(metric, families[family]);
      try {
        const reading = await withTimeout(read());
        for (const [family, metric] of metrics) setMetric(metric, families[family].label, reading[family]);
        this.#failed.set({ source: name }, 0);
      } catch (error) {
        this.#failed.set({ source: name }, 1);
        this.#log.debug('A source of metrics could not be read.', { source: name, error });
      }
    });
  }

  /** All metrics, in the text format of Prometheus. */
  text(): Promise<string> {
    this.#answer ??= this.#collect().finally(() => {
      this.#answer = undefined;
    });
    return this.#answer;
  }

  /** Answers `GET /metrics` until `end` is called. @throws ConfigError when the port is taken */
  serve({ host, port }: { readonly host: string; readonly port: number }): { end(): Promise<void> } {
    const answer = async () =>
      new Response(await this.text(), { headers: { 'content-type': this.#registry.contentType } });
    try {
      const server = Bun.serve({
        hostname: host,
        port,
        idleTimeout: IDLE_TIMEOUT_S,
        routes: { [PATH]: { GET: answer } },
        fetch: () => new Response(`The metrics are at ${PATH}.\n`, { status: 404 }),
      });
      this.#log.info('Metrics are served.', { host, port: server.port });
      return { end: () => server.stop(true) };
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
      throw new ConfigError([`METRICS_PORT ${port} on ${host} is in use: give each process a port of its own`]);
    }
  }

  async #collect(): Promise<string> {
    await Promise.all(this.#refreshes.map((refresh) => refresh()));
    return this.#registry.metrics();
  }

  #register(name: string, { type, help, label }: Family): Counter | Gauge {
    const labelNames = label === undefined ? [] : [label];
    const settings = { name: `lockfleet_${name}`, help, labelNames, registers: [this.#registry] };
    return type === 'counter' ? new Counter(settings) : new Gauge(settings);
  }
}

/** Serves the metrics of a process until `end` is called; undefined where `METRICS_PORT` is not set. */
export function startMetrics(
  { http, metricsPort }: { readonly http: { readonly host: string }; readonly metricsPort: number | undefined },
  log: Log,
): { readonly metrics: Metrics; end(): Promise<void> } | undefined {
  if (metricsPort === undefined) return undefined;
  const metrics = new Metrics(log);
  const { end } = metrics.serve({ host: http.host, port: metricsPort });
  return { metrics, end };
}

/** Removes the values of the last scrape. A counter returns to 0 for each known value of its label. */
function resetMetric(metric: Counter | Gauge, { type, label, labelValues = [] }: Family): void {
  metric.reset();
  if (type === 'counter' && label !== undefined) for (const value of labelValues) metric.inc({ [label]: value }, 0);
}

/** Adds a reading to a metric that was reset, so that the metric has the value that was read. */
function setMetric(metric: Counter | Gauge, label: string | undefined, value: Reading<string>[string]): void {
  if (value === undefined) return;
  if (typeof value === 'number') metric.inc(value);
  else if (label !== undefined) for (const [key, amount] of Object.entries(value)) metric.inc({ [label]: key }, amount);
}

function keysOf<Name extends string>(families: Readonly<Record<Name, Family>>): Name[] {
  return Object.keys(families) as Name[];
}

async function withTimeout<T>(reading: T | Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`the source did not answer within ${READ_TIMEOUT_MS} ms`)),
    READ_TIMEOUT_MS,
  );
  try {
    return await Promise.race([reading, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

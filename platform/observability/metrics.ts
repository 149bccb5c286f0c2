/**
 * The metrics of a process for Prometheus: how the process itself is, and what its parts say when they are asked.
 *
 * Nothing is counted for the sake of metrics where somebody counts already: a source is read when Prometheus comes. One that
 * fails or is slow has no values in that answer, and `lockfleet_source_failed` says so; all others have theirs.
 */

import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { ConfigError } from '../config/config.ts';
import type { Log } from './log.ts';

/** Prometheus waits for ten seconds, and a source that takes longer than this is no source of news. */
const READ_TIMEOUT_MS = 2_000;
const IDLE_TIMEOUT_S = 10;
const PATH = '/metrics';

export interface Family {
  /** `counter`: only ever grows, until the process ends. */
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  /** What its values are told apart by; none: it has one value. */
  readonly label?: string;
}

/** A number, or one for each value of the label; what is missing has no value. */
export type Reading<Name extends string> = { readonly [_ in Name]?: number | Readonly<Record<string, number>> };

export interface Source<Name extends string> {
  readonly name: string;
  /** By their names without the prefix `lockfleet_`, unit last. */
  readonly families: Readonly<Record<Name, Family>>;
  /** May throw. */
  readonly read: () => Reading<Name> | Promise<Reading<Name>>;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #failed: Gauge<'source'>;
  readonly #refreshes: (() => Promise<void>)[] = [];
  readonly #log: Log;
  /** Those who ask at the same moment get the same answer. */
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

  /** Adds what a part of the process can tell. */
  add<Name extends string>({ name, families, read }: Source<Name>): void {
    const metrics = new Map<Name, Counter | Gauge>();
    for (const family of keysOf(families)) metrics.set(family, this.#register(family, families[family]));
    this.#failed.set({ source: name }, 0);
    this.#refreshes.push(async () => {
      for (const metric of metrics.values()) metric.reset();
      try {
        const reading = await inTime(read());
        for (const [family, metric] of metrics) write(metric, families[family].label, reading[family]);
        this.#failed.set({ source: name }, 0);
      } catch (error) {
        this.#failed.set({ source: name }, 1);
        this.#log.debug('a source of metrics could not be read', { source: name, error });
      }
    });
  }

  /** Everything in the format of Prometheus. */
  text(): Promise<string> {
    this.#answer ??= this.#collect().finally(() => {
      this.#answer = undefined;
    });
    return this.#answer;
  }

  /** Answers `GET /metrics` until it is told to end. @throws ConfigError when the port is taken */
  serve({ host, port }: { readonly host: string; readonly port: number }): { end(): Promise<void> } {
    const answer = async () =>
      new Response(await this.text(), { headers: { 'content-type': this.#registry.contentType } });
    try {
      const server = Bun.serve({
        hostname: host,
        port,
        idleTimeout: IDLE_TIMEOUT_S,
        routes: { [PATH]: { GET: answer } },
        fetch: () => new Response(`metrics are at ${PATH}\n`, { status: 404 }),
      });
      this.#log.info('metrics can be read', { host, port: server.port });
      return { end: () => server.stop(true) };
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
      throw new ConfigError([`METRICS_PORT ${port} on ${host} is taken: each process needs one of its own`]);
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

/** The metrics of a process whose settings ask for them, served until `end`; undefined where they do not. */
export function startMetrics(
  { http, metricsPort }: { readonly http: { readonly host: string }; readonly metricsPort: number | undefined },
  log: Log,
): { readonly metrics: Metrics; end(): Promise<void> } | undefined {
  if (metricsPort === undefined) return undefined;
  const metrics = new Metrics(log);
  const { end } = metrics.serve({ host: http.host, port: metricsPort });
  return { metrics, end };
}

/** Both kinds begin at nothing after a reset, so that what is added is what was read. */
function write(metric: Counter | Gauge, label: string | undefined, value: Reading<string>[string]): void {
  if (value === undefined) return;
  if (typeof value === 'number') metric.inc(value);
  else if (label !== undefined) for (const [key, one] of Object.entries(value)) metric.inc({ [label]: key }, one);
}

function keysOf<Name extends string>(families: Readonly<Record<Name, Family>>): Name[] {
  return Object.keys(families) as Name[];
}

async function inTime<T>(reading: T | Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not within ${READ_TIMEOUT_MS} ms`)), READ_TIMEOUT_MS);
  try {
    return await Promise.race([reading, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

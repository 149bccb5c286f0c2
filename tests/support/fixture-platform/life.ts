import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

/** Notes the stop of a program in DATA_DIR, so that a test can see the order. */
export function noteStop(name: string): void {
  process.on('SIGTERM', () => {
    appendFileSync(join(process.env.DATA_DIR ?? '.', 'stops.txt'), `${name}\n`);
    process.exit(0);
  });
}

/** Says who it is on METRICS_PORT, as the programs do with their metrics. */
export function answerOnMetricsPort(name: string): void {
  const { METRICS_PORT } = process.env;
  if (METRICS_PORT === undefined) return;
  Bun.serve({ port: Number(METRICS_PORT), hostname: '127.0.0.1', fetch: () => new Response(name) });
}

/** Reads the metrics of a process as Prometheus does. */

import { eventually } from './eventually.ts';

/** By name and labels as they are written, such as `lockfleet_http_requests_total{status="200"}`. */
export type MetricValues = ReadonlyMap<string, number>;

export async function metricsAt(port: number): Promise<MetricValues> {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, { keepalive: false });
  if (answer.status !== 200) throw new Error(`status ${answer.status}: ${await answer.text()}`);
  return valuesOf(await answer.text());
}

/** Waits until the metrics meet the condition. */
export function metricsWhen(port: number, isMet: (values: MetricValues) => boolean): Promise<MetricValues> {
  return eventually(async () => {
    const values = await metricsAt(port);
    return isMet(values) ? values : false;
  });
}

export function valuesOf(text: string): MetricValues {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const end = line.lastIndexOf(' ');
      return [line.slice(0, end), Number(line.slice(end + 1))];
    }),
  );
}

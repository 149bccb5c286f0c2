/** The metrics of the API: how many requests it has answered. */

import type { Source } from '../../platform/observability/metrics.ts';

const FAMILIES = {
  http_requests_total: {
    type: 'counter',
    help: 'Answered requests by the status of the answer',
    label: 'status',
    labelValues: ['200', '201', '202', '400', '401', '403', '404', '409', '422', '500', '503'],
  },
} as const;

/** Counts the answers of the API by their status. */
export class ResponseMetrics implements Source<keyof typeof FAMILIES> {
  readonly name = 'api';
  readonly families = FAMILIES;
  readonly #byStatus: Record<number, number> = {};

  count(status: number): void {
    this.#byStatus[status] = (this.#byStatus[status] ?? 0) + 1;
  }

  readonly read = () => ({ http_requests_total: this.#byStatus });
}

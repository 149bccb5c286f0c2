/** What the server tells Prometheus of its API. */

import type { Source } from '../../platform/observability/metrics.ts';

const FAMILIES = {
  http_requests_total: {
    type: 'counter',
    help: 'Requests that were answered, by the status of the answer',
    label: 'status',
  },
} as const;

/** Counts answers by their status. */
export class AnsweredRequests implements Source<keyof typeof FAMILIES> {
  readonly name = 'api';
  readonly families = FAMILIES;
  readonly #byStatus: Record<number, number> = {};

  count(status: number): void {
    this.#byStatus[status] = (this.#byStatus[status] ?? 0) + 1;
  }

  readonly read = () => ({ http_requests_total: this.#byStatus });
}

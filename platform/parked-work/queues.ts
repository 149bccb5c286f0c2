/** The names of the work queues. Their metrics exist at 0 from the start. */
export const WORK_QUEUES = [
  'configuration',
  'configuration-push',
  'ingest',
  'reactor',
  'reactor-credentials',
  'reactor-facts',
  'reactor-sync',
] as const;

export type WorkQueue = (typeof WORK_QUEUES)[number];

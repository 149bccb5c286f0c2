import { createLog } from '../../platform/observability/log.ts';

/** A log without output, for tests that cause warnings and errors on purpose. */
export const silentLog = createLog(() => undefined, Date.now);

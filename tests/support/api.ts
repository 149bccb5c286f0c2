/** The API without the services behind it: for its routes, its documentation, and answers that need none. */

import { createLog } from '../../platform/observability/log.ts';
import { type ApiDependencies, api } from '../../server/api/app.ts';

export function apiWithoutServices(given: Partial<ApiDependencies> = {}) {
  const log = createLog(
    () => undefined,
    () => 0,
    { process: 'test' },
  );
  const dependencies = { postgres: { sql: undefined }, checks: {}, onAnswer: () => undefined, checkAnswers: true, log };
  return api({ ...dependencies, ...given } as unknown as ApiDependencies);
}

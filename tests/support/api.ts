/** The API without the services behind it: for its routes, its documentation, and answers that need none. */

import { createLog } from '../../platform/observability/log.ts';
import { type ApiDependencies, api } from '../../server/api/app.ts';

export function apiWithoutServices(given: Partial<ApiDependencies> = {}) {
  const log = createLog(
    () => undefined,
    () => 0,
    { process: 'test' },
  );
  const clock = () => 0;
  const postgres = { sql: undefined };
  const dependencies = { postgres, checks: {}, onAnswer: () => undefined, checkAnswers: true, clock, log };
  return api({ ...dependencies, ...given } as unknown as ApiDependencies);
}

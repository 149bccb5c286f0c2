import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { LineSink } from '../../platform/process/lines.ts';

/** A process that answers 200 at its URL when it is ready, and until then answers for what it waits. */
export interface ReadyCheck {
  readonly name: string;
  readonly url: string;
}

const POLL_INTERVAL_MS = 50;
const ANSWER_TIMEOUT_MS = 2_000;
const POLLS_BETWEEN_REPORTS = 100;
const MAX_PROGRESS_CHARS = 300;

/**
 * Polls until all checks pass in one round. Every five seconds it logs which processes are not ready, and why.
 * @returns false when it was aborted before
 */
export async function allReady(checks: readonly ReadyCheck[], aborted: AbortSignal, log: LineSink): Promise<boolean> {
  for (let poll = 1; !aborted.aborted; poll++) {
    const missing = (await Promise.all(checks.map(findObstacle))).filter((text) => text !== undefined);
    if (missing.length === 0) return true;
    if (poll % POLLS_BETWEEN_REPORTS === 0) log(`The platform is not ready yet: ${missing.join('; ')}`);
    await sleep(POLL_INTERVAL_MS);
  }
  return false;
}

async function findObstacle({ name, url }: ReadyCheck): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS), keepalive: false });
    const text = await answer.text();
    return answer.status === 200 ? undefined : `${name} answers ${answer.status} ${text.slice(0, MAX_PROGRESS_CHARS)}`;
  } catch (error) {
    return `${name} does not answer (${errorMessage(error)})`;
  }
}

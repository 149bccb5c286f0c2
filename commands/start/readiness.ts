import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '../../platform/observability/error-message.ts';
import type { LineSink } from '../../platform/process/lines.ts';

/** A process whose URL answers 200 when the process is ready. Before that, its answer says what the process waits for. */
export interface ReadinessCheck {
  readonly name: string;
  readonly url: string;
}

const POLL_INTERVAL_MS = 50;
const ANSWER_TIMEOUT_MS = 2_000;
const POLLS_BETWEEN_REPORTS = 100;
const MAX_ANSWER_CHARS = 300;

/**
 * Polls all processes until each is ready in the same round. Every five seconds it logs which processes are not ready, and why.
 * @returns false when `signal` aborts before
 */
export async function waitUntilReady(
  checks: readonly ReadinessCheck[],
  signal: AbortSignal,
  log: LineSink,
): Promise<boolean> {
  for (let poll = 1; !signal.aborted; poll++) {
    const obstacles = (await Promise.all(checks.map(findObstacle))).filter((text) => text !== undefined);
    if (obstacles.length === 0) return true;
    if (poll % POLLS_BETWEEN_REPORTS === 0) log(`The platform is not ready yet: ${obstacles.join('; ')}`);
    await sleep(POLL_INTERVAL_MS);
  }
  return false;
}

/** @returns why a process is not ready; undefined when it is */
async function findObstacle({ name, url }: ReadinessCheck): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS), keepalive: false });
    const text = await answer.text();
    return answer.status === 200 ? undefined : `${name} answers ${answer.status} ${text.slice(0, MAX_ANSWER_CHARS)}`;
  } catch (error) {
    return `${name} does not answer (${errorMessage(error)})`;
  }
}

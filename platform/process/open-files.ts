import { readFileSync } from 'node:fs';

/** Files that a process started by this one may open at most; infinite where the system does not say. */
export function openFilesLimit(): number {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return Number.POSITIVE_INFINITY;
  }
  // The soft limit, then the hard one, up to which a process raises it by itself.
  const hard = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1]);
  return Number.isNaN(hard) ? Number.POSITIVE_INFINITY : hard;
}

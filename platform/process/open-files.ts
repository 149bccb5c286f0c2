import { readFileSync } from 'node:fs';

/** How many files a child process may open at most; infinite on systems without /proc. */
export function openFilesLimit(): number {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return Number.POSITIVE_INFINITY;
  }
  // The line has the soft limit, then the hard limit. A process may raise its soft limit up to the hard limit.
  const hard = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1]);
  return Number.isNaN(hard) ? Number.POSITIVE_INFINITY : hard;
}

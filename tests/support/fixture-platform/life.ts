import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

/** Notes the stop of a program in DATA_DIR, so that a test can see the order. */
export function noteStop(name: string): void {
  process.on('SIGTERM', () => {
    appendFileSync(join(process.env.DATA_DIR ?? '.', 'stops.txt'), `${name}\n`);
    process.exit(0);
  });
}

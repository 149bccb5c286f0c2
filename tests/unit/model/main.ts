/**
 * `./run model`: plays bad days until one has a violation. Exit status 1: a day had one, and its seed is printed.
 *
 *   --seeds N   how many days, by default 10,000
 *   --from N    the seed of the first day, by default a random one
 */

import { parseArgs } from 'node:util';
import { seededRandom } from '../../support/random.ts';
import { playBadDay } from './bad-day.ts';

const PROGRESS_DAYS = 1_000;

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '10000' }, from: { type: 'string' } },
});
const days = Number(values.seeds);
const first = values.from === undefined ? seededRandom().seed : Number(values.from);
if (!Number.isSafeInteger(days) || days < 1 || !Number.isSafeInteger(first)) {
  console.error('usage: ./run model [--seeds N] [--from N]');
  process.exit(2);
}
for (let day = 0; day < days; day += 1) {
  const seed = first + day;
  const violations = await playBadDay(seededRandom(seed, { isQuiet: true }));
  if (violations.length > 0) {
    console.error(`The day of seed ${seed} (again with ./run model --seeds 1 --from ${seed}):`);
    for (const violation of violations) console.error(`  ${violation}`);
    process.exit(1);
  }
  if ((day + 1) % PROGRESS_DAYS === 0) console.log(`${day + 1} days without a violation`);
}
console.log(`${days} days from seed ${first}: no violation`);

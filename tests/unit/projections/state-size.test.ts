import { expect, test } from 'bun:test';
import { StateSizes } from '../../../projections/unit-states/state-size.ts';
import { FleetHistory } from '../../support/fleet-history.ts';
import { seededRandom } from '../../support/random.ts';

/** Caches are bounded by the estimate, so it must not be far from the JSON that it estimates. */
test('the estimated size of a state is within a quarter of its JSON, for small and for busy units', () => {
  const sizes = new StateSizes();
  for (const lockers of [2, 8, 40]) {
    const history = new FleetHistory(seededRandom(), { units: 3, lockers });
    for (let round = 0; round < 10; round++) {
      history.nextCommits(150);
      for (const state of history.states.values()) {
        const actual = JSON.stringify(state).length;
        const estimated = sizes.bytesOf(state);
        expect(estimated / actual).toBeGreaterThan(0.75);
        expect(estimated / actual).toBeLessThan(1.25);
      }
    }
  }
});

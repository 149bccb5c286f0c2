/** Loaded before a test file in an instrumented copy: writes which mutants its tests reach to `MUTANT_COVERAGE`. */

import { afterAll } from 'bun:test';

interface Stryker {
  readonly mutantCoverage?: { readonly static: Readonly<Record<string, number>> };
}

afterAll(async () => {
  const { __stryker__: stryker } = globalThis as { readonly __stryker__?: Stryker };
  const reached = Object.keys(stryker?.mutantCoverage?.static ?? {});
  await Bun.write(process.env.MUTANT_COVERAGE ?? '', JSON.stringify(reached));
});

/**
 * A preload for client generators: they write TypeScript by the compiler API of TypeScript 6, which the compiler of this
 * repository, TypeScript 7, no longer has.
 */

import ts from '@typescript/typescript6';
import { plugin } from 'bun';

await plugin({
  name: 'compiler-api',
  setup(build) {
    build.module('typescript', () => ({ exports: { ...ts, default: ts }, loader: 'object' }));
  },
});

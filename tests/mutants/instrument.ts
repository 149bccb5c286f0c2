/**
 * Makes a copy of the checkout in which every mutant of `domain/` exists, switched off: the instrumenter of Stryker writes each
 * changed expression beside the original one, and an environment variable chooses which of them runs. So one copy serves all mutants.
 */

import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import generator from '@babel/generator';
import { commonTokens } from '@stryker-mutator/api/plugin';
import { createInjector } from 'typed-inject';

// The instrumenter reads the default export of a CommonJS module as Node offers it; Bun offers the function itself.
Object.assign(generator, { default: generator });
const { createInstrumenter } = await import('@stryker-mutator/instrumenter');

/** The variable that switches a mutant on. The instrumented code reads it. */
export const ACTIVE_MUTANT = '__STRYKER_ACTIVE_MUTANT__';

/** One change of one expression. */
export interface Mutant {
  readonly id: string;
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** The kind of the change, such as `EqualityOperator`. */
  readonly mutator: string;
  readonly replacement: string;
}

/**
 * Copies the files that git tracks or would track from `root` to `copy`, with mutants in the files that match `mutated`.
 * @returns the mutants, in the order of the files
 */
export async function instrumentCopy(
  root: string,
  copy: string,
  mutated: (file: string) => boolean,
): Promise<Mutant[]> {
  const files = await trackedFiles(root);
  const contents = await Promise.all(
    files.map(async (name) => ({ name, bytes: await Bun.file(join(root, name)).bytes() })),
  );
  const sources = contents.filter(({ name }) => mutated(name));
  const { files: instrumented, mutants } = await instrumenter().instrument(
    sources.map(({ name, bytes }) => ({ name, content: new TextDecoder().decode(bytes), mutate: true })),
    { plugins: null, excludedMutations: [], ignorers: [] },
  );
  const changed = new Map(instrumented.map(({ name, content }) => [name, content]));
  for (const { name, bytes } of contents) {
    await mkdir(dirname(join(copy, name)), { recursive: true });
    await Bun.write(join(copy, name), changed.get(name) ?? bytes);
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'));
  return mutants.map(({ id, fileName, location, mutatorName, replacement = '' }) => ({
    id,
    file: fileName,
    line: location.start.line + 1,
    mutator: mutatorName,
    replacement,
  }));
}

async function trackedFiles(root: string): Promise<string[]> {
  const list = Bun.spawn(
    ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '*.ts', '*.json', '*.toml'],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const [names, code] = await Promise.all([list.stdout.text(), list.exited]);
  if (code !== 0) throw new Error(`git ls-files ended with status ${code}: ./run mutants needs a git checkout.`);
  const listed = names.split('\n').filter((name) => name !== '');
  const present = await Promise.all(listed.map((name) => Bun.file(join(root, name)).exists()));
  return listed.filter((_, index) => present[index]);
}

function instrumenter() {
  const log = {
    isTraceEnabled: () => false,
    isDebugEnabled: () => false,
    isInfoEnabled: () => false,
    isWarnEnabled: () => false,
    isErrorEnabled: () => false,
    isFatalEnabled: () => false,
    trace: () => undefined,
    debug: () => undefined,
    info: () => undefined,
    warn: console.error,
    error: console.error,
    fatal: console.error,
  };
  return createInjector().provideValue(commonTokens.logger, log).injectFunction(createInstrumenter);
}

/** Generates a client from an OpenAPI document, type-checks a program that uses it, and runs the program. */

import { mkdir, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { temporaryFolder } from './cleanup.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const PACKAGES = join(ROOT, 'node_modules');
const TSCONFIG = {
  compilerOptions: {
    target: 'ESNext',
    module: 'Preserve',
    moduleResolution: 'bundler',
    lib: ['ESNext', 'DOM', 'DOM.Iterable'],
    types: ['bun-types'],
    noEmit: true,
    strict: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: true,
  },
  include: ['program.ts', 'generated'],
};

/** The generators: their program, and its arguments for a document and a folder. */
const GENERATORS = {
  'openapi-typescript': {
    program: 'openapi-typescript/bin/cli.js',
    args: (document: string, folder: string) => [document, '-o', join(folder, 'schema.ts')],
  },
  'hey-api': {
    program: '@hey-api/openapi-ts/dist/run.mjs',
    args: (document: string, folder: string) => ['-i', document, '-o', folder],
  },
} as const;
export type GeneratorName = keyof typeof GENERATORS;

export class GeneratedClient {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Generates a client beside the program of that name in `client-programs`. @throws Error with what the generator printed */
  static async generate(name: GeneratorName, document: unknown): Promise<GeneratedClient> {
    const folder = await temporaryFolder(name);
    const { program, args } = GENERATORS[name];
    const file = join(folder, 'openapi.json');
    const generated = join(folder, 'generated');
    await mkdir(generated);
    await Promise.all([
      Bun.write(file, JSON.stringify(document)),
      Bun.write(join(folder, 'tsconfig.json'), JSON.stringify(TSCONFIG)),
      Bun.write(join(folder, 'program.ts'), Bun.file(join(import.meta.dir, 'client-programs', `${name}.ts.txt`))),
      symlink(PACKAGES, join(folder, 'node_modules')),
    ]);
    const preload = join(import.meta.dir, 'compiler-api.ts');
    await run(folder, ['--preload', preload, join(PACKAGES, program), ...args(file, generated)]);
    return new GeneratedClient(folder);
  }

  /** Compiles the program with the client. @throws Error with the mistakes that the compiler found */
  async typeCheck(): Promise<void> {
    await run(this.#folder, [join(PACKAGES, 'typescript', 'bin', 'tsc'), '--project', this.#folder]);
  }

  /** Runs the program. @returns what it printed, as JSON */
  async run(env: Readonly<Record<string, string>>): Promise<unknown> {
    return JSON.parse(await run(this.#folder, [join(this.#folder, 'program.ts')], env));
  }
}

async function run(cwd: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const child = Bun.spawn([process.execPath, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${args.join(' ')} ended with status ${status}:\n${stdout}${stderr}`);
  return stdout;
}

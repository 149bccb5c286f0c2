import { resolve } from 'node:path';
import { runInTerminal } from './start/terminal.ts';

const root = resolve(import.meta.dir, '..');

process.exit(
  await runInTerminal({
    root,
    toolchainDir: resolve(root, '.toolchain'),
    natsSetup: async () => ({ config: '', credsFile: undefined }),
  }),
);

import { resolve } from 'node:path';
import { platformNatsSetup } from './start/nats-setup.ts';
import { runInTerminal } from './start/terminal.ts';

const root = resolve(import.meta.dir, '..');

process.exit(
  await runInTerminal({
    root,
    toolchainDir: resolve(root, '.toolchain'),
    natsSetup: platformNatsSetup,
  }),
);

import { resolve } from 'node:path';
import { platformNatsSetup } from '../../../commands/start/nats-setup.ts';
import { runInTerminal } from '../../../commands/start/terminal.ts';

/** `./run start` with programs that do nothing but live, crash and stop as a test wants. */
process.exit(
  await runInTerminal({
    root: import.meta.dir,
    toolchainDir: resolve(import.meta.dir, '..', '..', '..', '.toolchain'),
    natsSetup: platformNatsSetup,
  }),
);

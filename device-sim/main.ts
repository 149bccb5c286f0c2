/** The simulated fleet of `./run start`, as a process. Prints `ready` once its control API answers. */

import { defaultConfiguration } from '../domain/configuration-values.ts';
import { ConfigError, loadConfig } from '../platform/config/config.ts';
import { createLog } from '../platform/observability/log.ts';
import { systemClock } from './environment/clock.ts';
import { startFleet } from './fleet/fleet.ts';
import { platformApi, storePath } from './registration/platform-api.ts';
import { MINUTES_LONG_VISIT } from './scenarios/scenarios.ts';
import { StoreError } from './store/group-commit.ts';
import { ListenError } from './transports/http-listener.ts';

/** What is not closed by then is closed by the end of the process; the store loses nothing by it. */
const STOP_TIMEOUT_MS = 3_000;
const EXIT_FAILED = 1;
const EXIT_REFUSED = 2;
/** Units listen beside the control API, on addresses of their own. */
const UNIT_PORT_OFFSET = 1;
const MAX_PORT = 65_535;

const nowMs = () => Date.now();
const log = createLog((line) => process.stderr.write(line), nowMs);

async function start(): Promise<void> {
  const config = loadConfig(process.env);
  const { units, lockers, seed, controlPort, customersPerMinute } = config.sim;
  const unitPort = controlPort === 0 ? 0 : controlPort + UNIT_PORT_OFFSET;
  const fleet = await startFleet({
    units,
    lockers,
    seed,
    storePath: storePath(config, seed),
    platform: platformApi(config, nowMs),
    factoryConfiguration: defaultConfiguration(config.holdTtlS),
    controlPort,
    unitPort: unitPort > MAX_PORT ? 0 : unitPort,
    customers: { walkUpsPerMinute: customersPerMinute, visit: MINUTES_LONG_VISIT },
    clock: systemClock(nowMs),
    newId: () => Bun.randomUUIDv7(),
    log,
    onStoreFailure: (error) => {
      log.error('the simulator ends: its store failed', { error });
      process.exit(EXIT_FAILED);
    },
  });
  let stopping = false;
  const stop = () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(0), STOP_TIMEOUT_MS);
    fleet.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error('the simulator did not stop cleanly', { error });
        process.exit(EXIT_FAILED);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  log.info('control API', { url: fleet.controlUrl });
  process.stdout.write('ready\n');
}

try {
  await start();
} catch (error) {
  const expected = error instanceof StoreError || error instanceof ListenError;
  if (!(expected || error instanceof ConfigError)) throw error;
  process.stderr.write(`lockfleet: ${error.message}\n`);
  process.exit(error instanceof ConfigError ? EXIT_REFUSED : EXIT_FAILED);
}

/** The simulated fleet of `./run start` as a process. Prints `ready` once its control API answers. */

import { defaultConfiguration } from '../domain/configuration/default-configuration.ts';
import { ConfigError, loadConfig } from '../platform/config/config.ts';
import { processLog } from '../platform/observability/process-log.ts';
import { startControlApi } from './control/control-api.ts';
import { Customers } from './customers/customers.ts';
import { MINUTES_LONG_VISIT } from './customers/visit.ts';
import { systemClock } from './environment/clock.ts';
import { Random } from './environment/random.ts';
import { Timers } from './environment/timers.ts';
import { startFleet } from './fleet/fleet.ts';
import { localPlatformApi } from './registration/platform-api.ts';
import { fleetStorePath } from './store/fleet-store.ts';
import { StoreError } from './store/group-commit.ts';
import { ListenError } from './transports/listen-error.ts';

/** The process ends this long after the signal to stop, also when connections are still open. */
const STOP_TIMEOUT_MS = 3_000;
const EXIT_FAILED = 1;
/** The simulator cannot run as it is configured. `./run start` does not start it again. */
const EXIT_REFUSED = 2;
/** The units listen at the port after that of the control API, each at its own address. */
const UNIT_PORT_OFFSET = 1;
const MAX_PORT = 65_535;

const nowMs = () => Date.now();
const clock = systemClock(nowMs);
const log = processLog(process, nowMs, { process: 'device-sim' });

async function start(): Promise<void> {
  const config = loadConfig(process.env);
  const { units, lockers, seed, controlPort, customersPerMinute } = config.sim;
  const unitPort = controlPort === 0 ? 0 : controlPort + UNIT_PORT_OFFSET;
  const fleet = await startFleet({
    units,
    lockers,
    seed,
    storePath: fleetStorePath(config.dataDir, seed),
    platform: localPlatformApi(config, nowMs),
    factoryConfiguration: defaultConfiguration(config.holdTtlS),
    unitPort: unitPort > MAX_PORT ? 0 : unitPort,
    clock,
    newId: () => Bun.randomUUIDv7(),
    log,
    onStoreFailure: (error) => {
      log.error('The simulator ends, because its store cannot write.', { error });
      process.exit(EXIT_FAILED);
    },
    onRegistrationRefused: (error) => {
      process.stderr.write(`lockfleet: ${error.message}\n`);
      process.exit(EXIT_REFUSED);
    },
  });
  for (const problem of fleet.readiness().problems) log.warn(problem);
  const timers = new Timers(clock);
  const customers = new Customers(MINUTES_LONG_VISIT, {
    units: [...fleet.units.values()],
    timers,
    random: new Random(seed, 'customers'),
    metrics: fleet.metrics,
  });
  customers.setArrivalRate(customersPerMinute, MINUTES_LONG_VISIT);
  customers.continueVisits();
  const control = startControlApi(controlPort, fleet);
  stopOnSignal(async () => {
    customers.stop();
    timers.stop();
    await control.stop();
    await fleet.stop();
  });
  log.info('The control API of the simulated fleet answers.', { url: control.url });
  process.stdout.write('ready\n');
}

function stopOnSignal(stop: () => Promise<void>): void {
  let isStopping = false;
  const onSignal = () => {
    if (isStopping) return;
    isStopping = true;
    setTimeout(() => {
      log.warn('The simulator ends with open connections: they did not close in time. Its store is complete.', {
        timeoutMs: STOP_TIMEOUT_MS,
      });
      process.exit(0);
    }, STOP_TIMEOUT_MS);
    stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error('The simulator did not stop cleanly.', { error });
        process.exit(EXIT_FAILED);
      },
    );
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
}

try {
  await start();
} catch (error) {
  const isExpected = error instanceof StoreError || error instanceof ListenError || error instanceof ConfigError;
  if (!isExpected) throw error;
  process.stderr.write(`lockfleet: ${error.message}\n`);
  process.exit(error instanceof ConfigError ? EXIT_REFUSED : EXIT_FAILED);
}

/** `./run sim`: runs a scenario on a fleet of its own against a running platform, and prints a report. */

import { defaultConfiguration } from '../domain/configuration/default-configuration.ts';
import { type Config, ConfigError, loadConfig } from '../platform/config/config.ts';
import { processLog } from '../platform/observability/process-log.ts';
import { parseArguments, type RunOptions, USAGE } from './cli/arguments.ts';
import { showProgress } from './cli/progress.ts';
import { Customers } from './customers/customers.ts';
import { systemClock } from './environment/clock.ts';
import { Random } from './environment/random.ts';
import { Timers } from './environment/timers.ts';
import { type Fleet, startFleet } from './fleet/fleet.ts';
import { localPlatformApi, RegistrationRefusedError } from './registration/platform-api.ts';
import { type Report, reportOf, reportText } from './scenarios/report.ts';
import { clearFaults, playScenario, waitUntilRecorded } from './scenarios/scenario-run.ts';
import { fleetStorePath } from './store/fleet-store.ts';
import { StoreError } from './store/group-commit.ts';
import { ListenError } from './transports/listen-error.ts';

/** Longest wait until the fleet is registered, connected and pinged. The scenario then begins, even with a part of the fleet. */
const READY_TIMEOUT_MS = 120_000;
const READY_POLL_MS = 50;
const EXIT_FAILED = 1;
const EXIT_REFUSED = 2;

const nowMs = () => Date.now();
const clock = systemClock(nowMs);
const progress = {
  isTerminal: process.stderr.isTTY === true,
  write: (text: string) => process.stderr.write(text),
};

/** @throws RegistrationRefusedError when the platform refuses the simulator's token */
async function simulate(config: Config, options: RunOptions, timers: Timers): Promise<Report> {
  const { units, lockers, seed, scenario, durationMs } = options;
  const log = processLog(process, nowMs);
  const registrationRefused = Promise.withResolvers<never>();
  const fleet = await startFleet({
    units,
    lockers,
    seed,
    storePath: fleetStorePath(config.dataDir, seed),
    platform: localPlatformApi(config, nowMs),
    factoryConfiguration: defaultConfiguration(config.holdTtlS),
    unitPort: 0,
    clock,
    newId: () => Bun.randomUUIDv7(),
    log: { ...log, info: () => undefined, debug: () => undefined },
    onStoreFailure: (error) => {
      log.error('The simulator ends, because its store cannot write.', { error });
      process.exit(EXIT_FAILED);
    },
    onRegistrationRefused: registrationRefused.reject,
  });
  const random = new Random(seed, 'customers');
  const customers = new Customers(scenario.visit, {
    units: [...fleet.units.values()],
    timers,
    random,
    metrics: fleet.metrics,
  });
  let stage = 'waiting for the platform';
  const play = async (): Promise<Report> => {
    const cleared = await clearFaults(fleet);
    if (cleared > 0) log.warn('The scenario has ended the faults that an earlier run had left.', { units: cleared });
    const deadlineMs = nowMs() + READY_TIMEOUT_MS;
    const canBecomeReady = () => {
      const { ready, refused, units: all } = fleet.readiness();
      return !ready && refused < all && nowMs() < deadlineMs && !timers.isStopped;
    };
    while (canBecomeReady()) await timers.pause(READY_POLL_MS);
    if (!timers.isStopped) requireRegistered(fleet, config);
    stage = scenario.name;
    const arrivals = await playScenario(fleet, customers, scenario, durationMs, timers);
    stage = 'waiting until the platform has recorded every event';
    await waitUntilRecorded(fleet, timers);
    return reportOf(fleet, { scenario: scenario.name, seed, durationMs, arrivals });
  };
  try {
    showProgress(fleet, () => stage, timers, progress);
    return await Promise.race([play(), registrationRefused.promise]);
  } finally {
    timers.stop();
    if (progress.isTerminal) progress.write('\n');
    await fleet.stop();
  }
}

/** @throws RegistrationRefusedError when no unit is registered, so that a scenario would test nothing */
function requireRegistered(fleet: Fleet, config: Config): void {
  const { registered, refused, problems } = fleet.readiness();
  if (registered > 0) return;
  const { url } = localPlatformApi(config, nowMs);
  const reason =
    refused > 0
      ? problems[0]
      : 'It does not answer, or cannot register units now. Start it, or set HTTP_HOST and HTTP_PORT to its address.';
  throw new RegistrationRefusedError(`The platform at ${url} has registered no unit. ${reason}`);
}

async function run(): Promise<number> {
  const timers = new Timers(clock);
  try {
    const config = loadConfig(process.env);
    const options = parseArguments(process.argv.slice(2), config);
    if (typeof options === 'string') {
      process.stderr.write(`${options}\n${USAGE}\n`);
      return EXIT_REFUSED;
    }
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => timers.stop());
    const report = await simulate(config, options, timers);
    process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
    return report.ok ? 0 : EXIT_FAILED;
  } catch (error) {
    const isExpected =
      error instanceof StoreError ||
      error instanceof ListenError ||
      error instanceof RegistrationRefusedError ||
      error instanceof ConfigError;
    if (!isExpected) throw error;
    process.stderr.write(`lockfleet: ${error.message}\n`);
    return error instanceof ConfigError ? EXIT_REFUSED : EXIT_FAILED;
  }
}

process.exit(await run());

/** `./run sim`: a fleet of its own against a platform that runs, for a while, with a report at the end. */

import { parseArgs } from 'node:util';
import { defaultConfiguration } from '../domain/configuration-values.ts';
import { type Config, ConfigError, loadConfig } from '../platform/config/config.ts';
import { errorMessage } from '../platform/observability/error-message.ts';
import { createLog } from '../platform/observability/log.ts';
import { systemClock, Timers } from './environment/clock.ts';
import { type Fleet, startFleet } from './fleet/fleet.ts';
import { platformApi, storePath } from './registration/platform-api.ts';
import { playScenario, type Report, reportOf, waitUntilRecorded } from './scenarios/scenario-run.ts';
import { SCENARIOS, type Scenario, scenarioNamed } from './scenarios/scenarios.ts';
import { StoreError } from './store/group-commit.ts';
import { ListenError } from './transports/http-listener.ts';

const USAGE = `usage: ./run sim [--units N] [--lockers M] [--seed S] [--scenario NAME] [--duration T] [--json]
  --units, --lockers, --seed   the fleet (SIM_UNITS, SIM_LOCKERS, SIM_SEED unless given)
  --scenario                   ${SCENARIOS.map(({ name, summary }) => `${name}: ${summary}`).join('\n                               ')}
  --duration                   such as 30s, 5m, 1h (60s unless given)
  --json                       the report as JSON on standard output`;
const DEFAULT_DURATION = '60s';
const MAX_DURATION_MS = 7 * 24 * 3_600_000;
const MAX_UNITS = 500_000;
const MAX_LOCKERS = 1_000;
const MAX_SEED = 2_147_483_647;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** How long the fleet may take to be registered, connected and pinged before its customers come anyway. */
const READY_TIMEOUT_MS = 120_000;
const READY_POLL_MS = 50;
const PROGRESS_INTERVAL_MS = 1_000;
/** Without a terminal, a line now and then is enough. */
const QUIET_PROGRESS_INTERVAL_MS = 10_000;
const EXIT_DIFFERENT = 1;
const EXIT_REFUSED = 2;

const nowMs = () => Date.now();
const isTerminal = process.stderr.isTTY === true;

interface Wanted {
  readonly units: number;
  readonly lockers: number;
  readonly seed: number;
  readonly scenario: Scenario;
  readonly durationMs: number;
  readonly json: boolean;
}

/** What the arguments ask for, or why they cannot be used. */
function wanted(args: readonly string[], { sim }: Config): Wanted | string {
  const text = { type: 'string' } as const;
  let values: { [option: string]: string | boolean | undefined };
  try {
    const options = { units: text, lockers: text, seed: text, scenario: text, duration: text };
    values = parseArgs({
      args: [...args],
      options: { ...options, json: { type: 'boolean' } },
      allowPositionals: false,
    }).values;
  } catch (error) {
    return errorMessage(error);
  }
  const units = wholeNumber(values.units, sim.units, MAX_UNITS);
  const lockers = wholeNumber(values.lockers, sim.lockers, MAX_LOCKERS);
  const seed = wholeNumber(values.seed, sim.seed, MAX_SEED);
  if (units === undefined || units < 1) return `--units must be a whole number from 1 to ${MAX_UNITS}`;
  if (lockers === undefined || lockers < 1) return `--lockers must be a whole number from 1 to ${MAX_LOCKERS}`;
  if (seed === undefined) return `--seed must be a whole number from 0 to ${MAX_SEED}`;
  const name = String(values.scenario ?? 'steady');
  const scenario = scenarioNamed(name);
  if (scenario === undefined) {
    return `there is no scenario "${name}"; there is ${SCENARIOS.map((known) => known.name).join(', ')}`;
  }
  const durationMs = duration(String(values.duration ?? DEFAULT_DURATION));
  if (durationMs === undefined) return '--duration must be a time such as 30s, 5m or 1h, a week at most';
  return { units, lockers, seed, scenario, durationMs, json: values.json === true };
}

function wholeNumber(text: string | boolean | undefined, fallback: number, maximum: number): number | undefined {
  if (text === undefined) return fallback;
  const value = typeof text === 'string' && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return value <= maximum ? value : undefined;
}

function duration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const ms = Number(match?.[1]) * (UNIT_MS[match?.[2] ?? 's'] ?? Number.NaN);
  return ms > 0 && ms <= MAX_DURATION_MS ? ms : undefined;
}

async function simulate(config: Config, wish: Wanted, timers: Timers): Promise<Report> {
  const log = createLog((line) => process.stderr.write(line), nowMs);
  const fleet = await startFleet({
    units: wish.units,
    lockers: wish.lockers,
    seed: wish.seed,
    storePath: storePath(config, wish.seed),
    platform: platformApi(config, nowMs),
    factoryConfiguration: defaultConfiguration(config.holdTtlS),
    controlPort: undefined,
    unitPort: 0,
    clock: systemClock(nowMs),
    newId: () => Bun.randomUUIDv7(),
    log: { ...log, info: () => undefined, debug: () => undefined },
    onStoreFailure: (error) => {
      log.error('the simulator ends: its store failed', { error });
      process.exit(EXIT_DIFFERENT);
    },
  });
  try {
    let stage = 'waiting for the platform';
    showProgress(fleet, timers, () => stage);
    const deadlineMs = nowMs() + READY_TIMEOUT_MS;
    while (!fleet.readiness().ready && nowMs() < deadlineMs && !timers.stopped) await timers.pause(READY_POLL_MS);
    stage = wish.scenario.name;
    await playScenario(fleet, wish.scenario, wish.durationMs, timers);
    stage = 'draining';
    await waitUntilRecorded(fleet, timers);
    const { scenario, seed, durationMs } = wish;
    return reportOf(fleet, { scenario: scenario.name, seed, durationMs });
  } finally {
    timers.stop();
    if (isTerminal) process.stderr.write('\n');
    await fleet.stop();
  }
}

function showProgress(fleet: Fleet, timers: Timers, stage: () => string): void {
  const startedMs = nowMs();
  const show = () => {
    const { units, connected, pinged } = fleet.readiness();
    const { produced, acknowledged, recorded, customersServed } = fleet.metrics;
    const seconds = Math.round((nowMs() - startedMs) / 1_000);
    const line =
      `${seconds} s  ${stage()}  units ${units}, connected ${connected}, pinged ${pinged}  ` +
      `customers ${customersServed}  events ${produced}, acknowledged ${acknowledged}, recorded ${recorded}`;
    process.stderr.write(isTerminal ? `\r\x1b[2K${line}` : `${line}\n`);
    timers.after(isTerminal ? PROGRESS_INTERVAL_MS : QUIET_PROGRESS_INTERVAL_MS, show);
  };
  timers.after(isTerminal ? PROGRESS_INTERVAL_MS : QUIET_PROGRESS_INTERVAL_MS, show);
}

function inWords({ events, customers, push, behind, problems, ok, ...run }: Report): string {
  return [
    `${run.scenario}, seed ${run.seed}: ${run.units} units, ${run.durationMs / 1_000} s`,
    `events     ${events.produced} produced, ${events.acknowledged} acknowledged, ${events.recorded} recorded`,
    `customers  ${customers.served} served, ${customers.turnedAway} turned away`,
    `push       ${push.batches} batches, p50 ${push.p50Ms ?? '-'} ms, p99 ${push.p99Ms ?? '-'} ms, ${push.errors} errors`,
    `commands   ${run.commands}`,
    ...problems.map((problem) => `problem    ${problem}`),
    ok ? 'everything was recorded' : `NOT recorded: ${events.unrecorded} events; behind: ${behind.join(', ')}`,
    ...(events.dropped === 0 ? [] : [`dropped    ${events.dropped} events: logs were full`]),
    '',
  ].join('\n');
}

async function run(): Promise<number> {
  const timers = new Timers(systemClock(nowMs));
  try {
    const config = loadConfig(process.env);
    const wish = wanted(process.argv.slice(2), config);
    if (typeof wish === 'string') {
      process.stderr.write(`${wish}\n${USAGE}\n`);
      return EXIT_REFUSED;
    }
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => timers.stop());
    const result = await simulate(config, wish, timers);
    process.stdout.write(wish.json ? `${JSON.stringify(result, null, 2)}\n` : inWords(result));
    return result.ok ? 0 : EXIT_DIFFERENT;
  } catch (error) {
    const expected = error instanceof StoreError || error instanceof ListenError;
    if (!(expected || error instanceof ConfigError)) throw error;
    process.stderr.write(`lockfleet: ${error.message}\n`);
    return EXIT_REFUSED;
  }
}

process.exit(await run());

/** The settings of every process. They are read once from the environment and validated together: one error lists all mistakes. */

import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { DEFAULT_DENIED } from '../network/address-resolver.ts';
import { Settings } from './settings.ts';

export const ROLES = ['api', 'ingest', 'fetch', 'reactor', 'config', 'pinger'] as const;
export type Role = (typeof ROLES)[number];

/** How log lines are written: `json` for programs that read them, `pretty` for people. */
export const LOG_FORMATS = ['json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface Config {
  /** `checkAnswers`: the API compares its answers with its documentation and fails when they differ; for tests. */
  readonly http: { readonly host: string; readonly port: number; readonly checkAnswers: boolean };
  /** Absolute path of the folder of the embedded services, the keys and the simulator. */
  readonly dataDir: string;
  /** `url` undefined: the embedded NATS. `credsFile` is the path of a creds file. */
  readonly nats: {
    readonly url: string | undefined;
    readonly credsFile: string | undefined;
    /** The wanted copies of each stream. A process never lowers what a stream has. */
    readonly replicas: number;
  };
  /** Undefined: the embedded Postgres. */
  readonly databaseUrl: string | undefined;
  /** `jwtSecret` undefined: the secret that the platform generated in `dataDir`, unless `jwksUrl` is set. */
  readonly auth: { readonly jwtSecret: string | undefined; readonly jwksUrl: string | undefined };
  readonly pinger: {
    readonly intervalMs: number;
    readonly timeoutMs: number;
    readonly failuresToOffline: number;
    readonly threads: number;
    /** Whether connections of the HTTP probe are kept for the next ping. */
    readonly httpKeepAlive: boolean;
  };
  /** Address ranges to which the platform sends no requests (`PING_DENY`). */
  readonly deniedAddresses: readonly string[];
  /** The hash prefixes that this process is fixed to. Undefined: shards are assigned to it. */
  readonly shards: readonly string[] | undefined;
  /** Interval at which the server fetches the log of units with `delivery: "fetch"`. */
  readonly fetchIntervalMs: number;
  readonly holdTtlS: number;
  /** Pauses between attempts to push a configuration; the last one repeats. */
  readonly configRetryScheduleS: readonly number[];
  readonly sim: {
    readonly units: number;
    readonly lockers: number;
    readonly seed: number;
    readonly controlPort: number;
    /** Customers who walk up to the screens of the whole fleet in a minute. 0: none. */
    readonly customersPerMinute: number;
    /** Authorises the simulator at the API: a token with the role `ops`, or an API key. Undefined: it signs tokens itself. */
    readonly token: string | undefined;
  };
  /** Bounds on what one unit, customer or address may use. */
  readonly limits: {
    /** Events of one unit that are recorded in a second, on average. */
    readonly unitEventsPerS: number;
  };
  readonly roles: ReadonlySet<Role>;
  /** The format of log lines. Undefined: `pretty` on a terminal, `json` elsewhere. */
  readonly logFormat: LogFormat | undefined;
  /** The port of the metrics of this process, on the host of the API. Undefined: it serves no metrics. */
  readonly metricsPort: number | undefined;
}

/** Settings that cannot be used; `mistakes` has a line for each. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly mistakes: readonly string[];

  constructor(mistakes: readonly string[]) {
    super(`These settings cannot be used:\n${mistakes.map((mistake) => `  ${mistake}`).join('\n')}`);
    this.mistakes = mistakes;
  }
}

/** @throws ConfigError with every mistake */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const settings = new Settings(env);
  const { mistakes } = settings;
  const roles = (settings.text('ROLES') ?? ROLES.join(',')).split(',').map((role) => role.trim());
  for (const role of roles) {
    if (!isRole(role)) mistakes.push(`ROLES must be some of ${ROLES.join(', ')}, not "${role}"`);
  }
  const config: Config = {
    http: {
      host: settings.text('HTTP_HOST') ?? '127.0.0.1',
      port: settings.integer('HTTP_PORT', 3000, 0, 65_535),
      checkAnswers: settings.flag('HTTP_CHECK_ANSWERS', false),
    },
    dataDir: resolve(settings.text('DATA_DIR') ?? '.data'),
    nats: {
      url: settings.url('NATS_URL', ['nats:', 'tls:', 'ws:', 'wss:']),
      credsFile: settings.text('NATS_CREDS'),
      replicas: settings.integer('NATS_REPLICAS', 1, 1, 5),
    },
    databaseUrl: settings.url('DATABASE_URL', ['postgres:', 'postgresql:']),
    auth: { jwtSecret: settings.text('AUTH_JWT_SECRET'), jwksUrl: settings.url('AUTH_JWKS_URL', ['http:', 'https:']) },
    pinger: {
      intervalMs: settings.integer('PING_INTERVAL_MS', 10_000, 100, 3_600_000),
      timeoutMs: settings.integer('PING_TIMEOUT_MS', 2_000, 10, 60_000),
      failuresToOffline: settings.integer('PING_FAILURES_TO_OFFLINE', 3, 1, 100),
      threads: settings.integer('PINGER_THREADS', availableParallelism(), 1, 64),
      httpKeepAlive: settings.flag('PING_HTTP_KEEP_ALIVE', false),
    },
    deniedAddresses: settings.ranges('PING_DENY', DEFAULT_DENIED),
    shards: settings.prefixes('SHARDS'),
    fetchIntervalMs: settings.integer('FETCH_INTERVAL_MS', 60_000, 1_000, 86_400_000),
    holdTtlS: settings.integer('HOLD_TTL_S', 600, 10, 86_400),
    configRetryScheduleS: settings.seconds('CONFIG_RETRY_SCHEDULE_S', [60, 300, 900]),
    sim: {
      units: settings.integer('SIM_UNITS', 50, 0, 500_000),
      lockers: settings.integer('SIM_LOCKERS', 8, 1, 1_000),
      seed: settings.integer('SIM_SEED', 1, 0, 2_147_483_647),
      controlPort: settings.integer('SIM_CONTROL_PORT', 3900, 0, 65_535),
      customersPerMinute: settings.integer('SIM_CUSTOMERS', 4, 0, 60_000),
      token: settings.text('SIM_TOKEN'),
    },
    limits: { unitEventsPerS: settings.integer('LIMIT_UNIT_EVENTS_PER_S', 200, 1, 100_000) },
    roles: new Set(roles.filter(isRole)),
    logFormat: settings.choice('LOG_FORMAT', LOG_FORMATS),
    metricsPort: settings.optionalInteger('METRICS_PORT', 1, MAX_METRICS_PORT),
  };
  if (config.auth.jwtSecret !== undefined && config.auth.jwksUrl !== undefined) {
    mistakes.push('AUTH_JWT_SECRET and AUTH_JWKS_URL exclude each other: set one of them');
  }
  if (config.auth.jwtSecret !== undefined && config.auth.jwtSecret.length < MIN_JWT_SECRET_LENGTH) {
    mistakes.push(`AUTH_JWT_SECRET must have at least ${MIN_JWT_SECRET_LENGTH} characters`);
  }
  if (config.pinger.timeoutMs >= config.pinger.intervalMs) {
    mistakes.push('PING_TIMEOUT_MS must be shorter than PING_INTERVAL_MS');
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes);
  return config;
}

/**
 * The URLs of NATS and Postgres, for a process that does not start them itself.
 * @throws ConfigError when one is missing
 */
export function requireServices(config: Config): { readonly natsUrl: string; readonly databaseUrl: string } {
  const { nats, databaseUrl } = config;
  if (nats.url !== undefined && databaseUrl !== undefined) return { natsUrl: nats.url, databaseUrl };
  const missing = [nats.url === undefined ? 'NATS_URL' : '', databaseUrl === undefined ? 'DATABASE_URL' : ''];
  throw new ConfigError(
    missing
      .filter((name) => name !== '')
      .map((name) => `${name} is missing: set it, or use ./run start, which starts NATS and Postgres`),
  );
}

const MIN_JWT_SECRET_LENGTH = 32;
/** `./run start` counts up from METRICS_PORT, a port for each process. */
const MAX_METRICS_PORT = 65_500;

function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}

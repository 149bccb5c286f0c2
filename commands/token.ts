/** `./run token --role customer --sub alice [--ttl SECONDS]`: prints a signed token for the API. */

import { parseArgs } from 'node:util';
import { signToken, TOKEN_ROLES, type TokenRole } from '../platform/auth/tokens.ts';
import { ConfigError, loadConfig } from '../platform/config/config.ts';
import { readJwtSecret } from '../platform/credentials/keys.ts';
import { errorMessage } from '../platform/observability/error-message.ts';

const DEFAULT_TTL_S = 24 * 60 * 60;
const MAX_TTL_S = 365 * 24 * 60 * 60;
const USAGE = `usage: ./run token --role ${TOKEN_ROLES.join('|')} --sub NAME [--ttl SECONDS]`;

interface TokenRequest {
  readonly role: TokenRole;
  readonly sub: string;
  readonly ttlS: number;
}

/** @returns the request, or a message for the user when the arguments cannot be used */
function parseRequest(args: readonly string[]): TokenRequest | string {
  let values: { role?: string | undefined; sub?: string | undefined; ttl?: string | undefined };
  try {
    const option = { type: 'string' } as const;
    values = parseArgs({
      args: [...args],
      options: { role: option, sub: option, ttl: option },
      allowPositionals: false,
    }).values;
  } catch (error) {
    return errorMessage(error);
  }
  const role = TOKEN_ROLES.find((known) => known === values.role);
  if (role === undefined) return `--role must be one of ${TOKEN_ROLES.join(', ')}`;
  if (values.sub === undefined || values.sub === '') return '--sub must name the customer or the operator';
  const ttlS = Number(values.ttl ?? DEFAULT_TTL_S);
  if (!Number.isInteger(ttlS) || ttlS < 1 || ttlS > MAX_TTL_S) return `--ttl must be 1 to ${MAX_TTL_S} seconds`;
  return { role, sub: values.sub, ttlS };
}

async function run(): Promise<number> {
  const request = parseRequest(process.argv.slice(2));
  if (typeof request === 'string') {
    console.error(`${request}\n${USAGE}`);
    return 2;
  }
  try {
    const config = loadConfig(process.env);
    if (config.auth.jwksUrl !== undefined) {
      console.error(
        'AUTH_JWKS_URL is set, so only the identity provider at that URL can issue tokens. Get a token from it.',
      );
      return 1;
    }
    const secret = config.auth.jwtSecret ?? readJwtSecret(config.dataDir);
    if (secret === undefined) {
      console.error(
        `DATA_DIR ${config.dataDir} has no keys, so no server would accept the token. ` +
          'Start a platform on it with ./run start first, or set DATA_DIR to that of the running platform.',
      );
      return 1;
    }
    console.log(await signToken({ ...request, secret, nowMs: Date.now() }));
    return 0;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    return 2;
  }
}

process.exit(await run());

/** `./run token --role customer --sub alice [--ttl SECONDS]`: prints a signed token for the API. */

import { parseArgs } from 'node:util';
import { signToken, TOKEN_ROLES, type TokenRole } from '../platform/auth/tokens.ts';
import { ConfigError, loadConfig } from '../platform/config/config.ts';
import { loadKeys } from '../platform/credentials/keys.ts';
import { errorMessage } from '../platform/observability/error-message.ts';

const DEFAULT_TTL_S = 24 * 60 * 60;
const MAX_TTL_S = 365 * 24 * 60 * 60;
const USAGE = `usage: ./run token --role ${TOKEN_ROLES.join('|')} --sub NAME [--ttl SECONDS]`;

interface Wanted {
  readonly role: TokenRole;
  readonly sub: string;
  readonly ttlS: number;
}

function wanted(args: readonly string[]): Wanted | string {
  let values: { role?: string | undefined; sub?: string | undefined; ttl?: string | undefined };
  try {
    const text = { type: 'string' } as const;
    values = parseArgs({
      args: [...args],
      options: { role: text, sub: text, ttl: text },
      allowPositionals: false,
    }).values;
  } catch (error) {
    return errorMessage(error);
  }
  const role = TOKEN_ROLES.find((known) => known === values.role);
  if (role === undefined) return `--role must be one of ${TOKEN_ROLES.join(', ')}`;
  if (values.sub === undefined || values.sub === '') return '--sub must name somebody';
  const ttlS = Number(values.ttl ?? DEFAULT_TTL_S);
  if (!Number.isInteger(ttlS) || ttlS < 1 || ttlS > MAX_TTL_S) return `--ttl must be 1 to ${MAX_TTL_S} seconds`;
  return { role, sub: values.sub, ttlS };
}

async function run(): Promise<number> {
  const wish = wanted(process.argv.slice(2));
  if (typeof wish === 'string') {
    console.error(`${wish}\n${USAGE}`);
    return 2;
  }
  try {
    const config = loadConfig(process.env);
    if (config.auth.jwksUrl !== undefined) {
      console.error('With AUTH_JWKS_URL, tokens come from your identity provider, not from here.');
      return 1;
    }
    const secret = config.auth.jwtSecret ?? (await loadKeys(config.dataDir)).jwtSecret;
    console.log(await signToken({ ...wish, secret, nowMs: Date.now() }));
    return 0;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    return 2;
  }
}

process.exit(await run());

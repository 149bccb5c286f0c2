/** What `main.ts` and `cli.ts` make of the settings. */

import { join } from 'node:path';
import { signToken } from '../../platform/auth/tokens.ts';
import type { Config } from '../../platform/config/config.ts';
import { loadKeys } from '../../platform/credentials/keys.ts';
import type { PlatformApi } from './fleet-registration.ts';

const TOKEN_TTL_S = 300;
const TOKEN_SUBJECT = 'device-sim';

/** The platform of this machine, and the tokens with which units are registered there. */
export function platformApi(config: Config, nowMs: () => number): PlatformApi {
  const { host, port } = config.http;
  return {
    url: `http://${reachable(host)}:${port}`,
    opsToken: async () => {
      if (config.auth.jwksUrl !== undefined) {
        throw new Error('with AUTH_JWKS_URL the simulator cannot sign itself a token; set AUTH_JWT_SECRET instead');
      }
      const secret = config.auth.jwtSecret ?? (await loadKeys(config.dataDir)).jwtSecret;
      return signToken({ secret, sub: TOKEN_SUBJECT, role: 'ops', ttlS: TOKEN_TTL_S, nowMs: nowMs() });
    },
  };
}

/** The store of the fleet of a seed: one fleet, one file, whoever runs it. */
export function storePath(config: Config, seed: number): string {
  return join(config.dataDir, 'device-sim', `fleet-${seed}.sqlite`);
}

/** An address that stands for all addresses cannot be called everywhere. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

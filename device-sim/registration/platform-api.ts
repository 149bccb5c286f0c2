/** The API of the platform at which the simulator registers its units, and the operator's tokens for it. */

import { signToken } from '../../platform/auth/tokens.ts';
import type { Config } from '../../platform/config/config.ts';
import { loadKeys } from '../../platform/credentials/keys.ts';

const TOKEN_TTL_S = 300;
const TOKEN_SUBJECT = 'device-sim';

export interface PlatformApi {
  /** Base URL, such as `http://127.0.0.1:3000`. */
  readonly url: string;
  /**
   * A token with the role `ops`.
   * @throws RegistrationRefusedError when the simulator has no key to sign one
   */
  readonly opsToken: () => Promise<string>;
}

/** The platform refuses every registration of this simulator. The error is terminal: a retry gets the same answer. */
export class RegistrationRefusedError extends Error {
  override readonly name = 'RegistrationRefusedError';
}

/** The platform that runs on this machine under the same settings. */
export function localPlatformApi(config: Config, nowMs: () => number): PlatformApi {
  const { host, port } = config.http;
  return {
    url: `http://${connectableHost(host)}:${port}`,
    opsToken: async () => {
      if (config.auth.jwksUrl !== undefined) {
        throw new RegistrationRefusedError(
          'The simulator cannot sign a token for the platform, because AUTH_JWKS_URL leaves signing to an identity ' +
            'provider. Set AUTH_JWT_SECRET instead, or SIM_UNITS=0 to run without simulated units.',
        );
      }
      const secret = config.auth.jwtSecret ?? (await loadKeys(config.dataDir)).jwtSecret;
      return signToken({ secret, sub: TOKEN_SUBJECT, role: 'ops', ttlS: TOKEN_TTL_S, nowMs: nowMs() });
    },
  };
}

/** A host to connect to. A server that listens on all addresses (0.0.0.0 or ::) is reached at the loopback address. */
function connectableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

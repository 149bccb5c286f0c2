/** The API of the platform at which the simulator registers its units, and the operator's tokens for it. */

import { signToken } from '../../platform/auth/tokens.ts';
import type { Config } from '../../platform/config/config.ts';
import { readJwtSecret } from '../../platform/credentials/keys.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';

const TOKEN_TTL_S = 300;
const TOKEN_SUBJECT = 'device-sim';

export const DEFAULT_TOKEN_ADVICE =
  'Start the simulator with the DATA_DIR or the AUTH_JWT_SECRET of the platform, or with SIM_TOKEN.';

export interface PlatformApi {
  /** Base URL, such as `http://127.0.0.1:3000`. */
  readonly url: string;
  /**
   * A token with the role `ops`, or an API key. Undefined while there is no key to sign one: a platform that is starting makes its
   * keys before it answers, and one with other keys refuses a request without a token.
   * @throws RegistrationRefusedError when the settings give the simulator no token
   */
  readonly opsToken: () => Promise<string | undefined>;
  /** What an operator does when the platform refuses the token. @default `DEFAULT_TOKEN_ADVICE` */
  readonly tokenAdvice?: () => string;
}

/** The platform refuses every registration of this simulator. The error is terminal: a retry gets the same answer. */
export class RegistrationRefusedError extends Error {
  override readonly name = 'RegistrationRefusedError';
}

/** The platform that runs on this machine under the same settings. */
export function localPlatformApi(config: Config, nowMs: () => number): PlatformApi {
  const { host, port } = config.http;
  return { url: `http://${connectableHost(host)}:${port}`, ...tokenSource(config, nowMs) };
}

function tokenSource(
  { auth, dataDir, sim: { token } }: Config,
  nowMs: () => number,
): Pick<PlatformApi, 'opsToken' | 'tokenAdvice'> {
  if (token !== undefined) {
    return {
      opsToken: () => Promise.resolve(token),
      tokenAdvice: () =>
        'Set SIM_TOKEN to a valid token with the role ops, or to an API key (POST /v1/api-keys). A simulator whose units are ' +
        'all registered needs none.',
    };
  }
  if (auth.jwksUrl !== undefined) {
    const refusal = new RegistrationRefusedError(
      'The simulator cannot sign a token for the platform, because AUTH_JWKS_URL leaves signing to an identity provider. ' +
        'Set SIM_TOKEN to a token of the provider with the role ops or to an API key (POST /v1/api-keys), or set SIM_UNITS=0 ' +
        'to run without simulated units.',
    );
    return { opsToken: () => Promise.reject(refusal) };
  }
  const secret = () => auth.jwtSecret ?? storedSecret(dataDir);
  return {
    opsToken: async () => {
      const key = secret();
      if (key === undefined) return undefined;
      return signToken({ secret: key, sub: TOKEN_SUBJECT, role: 'ops', ttlS: TOKEN_TTL_S, nowMs: nowMs() });
    },
    tokenAdvice: () =>
      (secret() === undefined
        ? `DATA_DIR ${dataDir} has no keys of a platform. `
        : 'The simulator and the platform use different keys. ') + DEFAULT_TOKEN_ADVICE,
  };
}

/** @throws RegistrationRefusedError when the file of the secret cannot be read */
function storedSecret(dataDir: string): string | undefined {
  try {
    const secret = readJwtSecret(dataDir);
    return secret === '' ? undefined : secret;
  } catch (error) {
    throw new RegistrationRefusedError(
      `The simulator cannot read the keys in DATA_DIR ${dataDir}: ${errorMessage(error)}. Make them readable, or set SIM_TOKEN.`,
    );
  }
}

/** A host to connect to. A server that listens on all addresses (0.0.0.0 or ::) is reached at the loopback address. */
function connectableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

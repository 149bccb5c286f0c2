/**
 * The platform's own keys, in `DATA_DIR/keys`: generated at the first start and readable by their owner only. The platform stores
 * no secret of a unit, because it derives or signs every secret of a unit from these keys.
 */

import { hkdfSync, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { type KeyKind, newKeyPair } from '../nats/nkeys.ts';

const UNIT_KEY_BYTES = 32;
const FLEET_KEY_BYTES = 32;
const JWT_SECRET_BYTES = 48;
const ACCESS_CODE_MODULUS = 1_000_000;
const ACCESS_CODE_DIGITS = 6;

const KEYS_FOLDER = 'keys';
const JWT_SECRET_FILE = 'jwt-secret';

export interface PlatformKeys {
  /** Seeds of the NATS operator and its three accounts. */
  readonly nats: {
    readonly operator: string;
    readonly system: string;
    readonly platform: string;
    readonly units: string;
  };
  /** The key from which unit keys and access codes are derived. */
  readonly fleetKey: Uint8Array;
  /** Private Ed25519 key that signs commands and offline tokens. */
  readonly signingKey: JWK;
  readonly jwtSecret: string;
}

/** Loads the keys and generates missing ones. Safe when several processes start concurrently. */
export async function loadKeys(dataDir: string): Promise<PlatformKeys> {
  const folder = join(dataDir, KEYS_FOLDER);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const key = (name: string, make: () => string) => readOrCreate(join(folder, name), make);
  const seed = (kind: KeyKind) => new TextDecoder().decode(newKeyPair(kind).getSeed());
  const newSigningKey = JSON.stringify(await makeSigningKey());
  return {
    nats: {
      operator: key('nats-operator.nk', () => seed('operator')),
      system: key('nats-system.nk', () => seed('account')),
      platform: key('nats-platform.nk', () => seed('account')),
      units: key('nats-units.nk', () => seed('account')),
    },
    fleetKey: Buffer.from(
      key('fleet.key', () => randomBytes(FLEET_KEY_BYTES).toString('base64')),
      'base64',
    ),
    signingKey: JSON.parse(key('signing.jwk', () => newSigningKey)) as JWK,
    jwtSecret: key(JWT_SECRET_FILE, () => randomBytes(JWT_SECRET_BYTES).toString('base64url')),
  };
}

/** The secret that signs tokens, of a `DATA_DIR` that has keys; `undefined` where it has none. It never creates keys. */
export function readJwtSecret(dataDir: string): string | undefined {
  const path = join(dataDir, KEYS_FOLDER, JWT_SECRET_FILE);
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

/** The key of a unit's pings: HKDF-SHA256 of the fleet key, the name and the version of its credentials. */
export function unitKey(fleetKey: Uint8Array, unit: string, keyVersion: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', fleetKey, unit, `lockfleet unit key ${keyVersion}`, UNIT_KEY_BYTES));
}

/**
 * The six digits that open a reservation's locker at the screen: derived, so that no event and no table holds them.
 * @param draw another one gives another code
 */
export function accessCode(fleetKey: Uint8Array, reservationId: string, draw: number): string {
  const info = draw === 0 ? 'lockfleet access code' : `lockfleet access code ${draw}`;
  const bytes = Buffer.from(hkdfSync('sha256', fleetKey, reservationId, info, 6));
  return String(bytes.readUIntBE(0, 6) % ACCESS_CODE_MODULUS).padStart(ACCESS_CODE_DIGITS, '0');
}

/** The public half of the signing key, as units get it. */
export function publicKey({ kty, crv, x }: JWK): JWK {
  return {
    ...(kty === undefined ? {} : { kty }),
    ...(crv === undefined ? {} : { crv }),
    ...(x === undefined ? {} : { x }),
  };
}

async function makeSigningKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  return exportJWK(privateKey);
}

/** Creates the file unless it exists. When several processes create it, the first link determines its content, and all read that. */
function readOrCreate(path: string, make: () => string): string {
  if (!existsSync(path)) {
    const draft = `${path}.${randomBytes(4).toString('hex')}`;
    writeFileSync(draft, make(), { mode: 0o600 });
    chmodSync(draft, 0o600);
    try {
      linkSync(draft, path);
    } catch (error) {
      if (!existsSync(path)) throw error;
    } finally {
      unlinkSync(draft);
    }
  }
  return readFileSync(path, 'utf8').trim();
}

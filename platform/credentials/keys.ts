/**
 * The platform's own keys, in `DATA_DIR/keys`: generated at the first start and readable by their owner only. The platform stores
 * no secret of a unit, because it derives or signs every secret of a unit from these keys.
 */

import { hkdfSync, randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { type KeyKind, newKeyPair } from '../nats/nkeys.ts';

const UNIT_KEY_BYTES = 32;
const FLEET_KEY_BYTES = 32;
const JWT_SECRET_BYTES = 48;
const ACCESS_CODE_MODULUS = 1_000_000;
const ACCESS_CODE_DIGITS = 6;

/** The seed of an nkey, in base32. */
const NKEY_SEED = /^S[A-Z2-7]{57}$/;

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

/** A key file that is empty or damaged. The platform must not go on: with other keys, no unit could prove what it is. */
export class KeyFileError extends Error {
  override readonly name = 'KeyFileError';

  constructor(path: string) {
    super(
      `The key file ${path} is empty or damaged. Restore it from a backup; a new key would end the credentials of all units.`,
    );
  }
}

/** Loads the keys and generates missing ones. Safe when several processes start concurrently. @throws KeyFileError */
export async function loadKeys(dataDir: string): Promise<PlatformKeys> {
  const folder = join(dataDir, KEYS_FOLDER);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const key = (name: string, make: () => string, isValid: (text: string) => boolean) => {
    const path = join(folder, name);
    const text = readOrCreate(path, make);
    if (!isValid(text)) throw new KeyFileError(path);
    return text;
  };
  const seed = (kind: KeyKind) => new TextDecoder().decode(newKeyPair(kind).getSeed());
  const newSigningKey = JSON.stringify(await makeSigningKey());
  return {
    nats: {
      operator: key('nats-operator.nk', () => seed('operator'), isSeed),
      system: key('nats-system.nk', () => seed('account'), isSeed),
      platform: key('nats-platform.nk', () => seed('account'), isSeed),
      units: key('nats-units.nk', () => seed('account'), isSeed),
    },
    fleetKey: Buffer.from(
      key(
        'fleet.key',
        () => randomBytes(FLEET_KEY_BYTES).toString('base64'),
        (text) => Buffer.from(text, 'base64').length === FLEET_KEY_BYTES,
      ),
      'base64',
    ),
    signingKey: JSON.parse(key('signing.jwk', () => newSigningKey, isPrivateKey)) as JWK,
    jwtSecret: key(
      JWT_SECRET_FILE,
      () => randomBytes(JWT_SECRET_BYTES).toString('base64url'),
      (text) => Buffer.from(text, 'base64url').length === JWT_SECRET_BYTES,
    ),
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
    writeDurably(draft, make());
    try {
      linkSync(draft, path);
    } catch (error) {
      if (!existsSync(path)) throw error;
    } finally {
      unlinkSync(draft);
    }
    syncFolder(dirname(path));
  }
  return readFileSync(path, 'utf8').trim();
}

/** Writes a file that survives a loss of power: after a crash, a name without content would be a key that everyone knows. */
function writeDurably(path: string, text: string): void {
  const file = openSync(path, 'wx', 0o600);
  try {
    chmodSync(path, 0o600);
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Makes the names of a folder durable. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function isSeed(text: string): boolean {
  return NKEY_SEED.test(text);
}

function isPrivateKey(text: string): boolean {
  try {
    const key = JSON.parse(text) as JWK;
    return key.kty === 'OKP' && typeof key.d === 'string' && typeof key.x === 'string';
  } catch {
    return false;
  }
}

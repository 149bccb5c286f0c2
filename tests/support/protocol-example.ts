/** Computes the worked example of `docs/unit-protocol.md`: every line of a code block on that page. */

import { createHash, createPrivateKey } from 'node:crypto';
import type { JWK } from 'jose';
import { batchJson } from '../../device-sim/transports/batches.ts';
import { canonicalJson, configurationHash as hashOf } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { Command, OfflineTokenClaims, PingReply } from '../../domain/unit-protocol/commands.ts';
import { unitCommandsSubject, unitHeartbeatSubject, unitPushSubject } from '../../platform/nats/subjects.ts';
import { encodePing, encodePingReply, nameHash } from '../../platform/unit-protocol/datagram.ts';
import { natsPing, pingPath, pingReplyMac } from '../../platform/unit-protocol/ping.ts';
import { PlatformSigner } from '../../platform/unit-protocol/signatures.ts';

export const UNIT = 'PL-1000';
export const NOW_MS = Date.parse('2026-07-01T12:00:00.000Z');
const EPOCH = '0197c5ed-3a00-7b1e-8f00-0a1b2c3d4e5f';
const NONCE = '000102030405060708090a0b0c0d0e0f';
const RESERVATION = 'PL-1000.0197c5ec-0000-7000-8000-000000000001';
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The keys of the example are hashes of public texts: they are of no use outside of it. */
const sha256 = (text: string) => createHash('sha256').update(text).digest();
export const UNIT_KEY = sha256('lockfleet example unit key');

function platformKey(): JWK {
  const der = Buffer.concat([PKCS8_HEAD, sha256('lockfleet example platform key')]);
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ format: 'jwk' }) as JWK;
}

export function publicPlatformKey(): JWK {
  const { kty, crv, x } = platformKey();
  if (kty === undefined || crv === undefined || x === undefined) throw new Error('the key has no public half');
  return { kty, crv, x };
}

export const COMMAND: Command = {
  commandId: '0197c5ed-4000-7000-8000-000000000002',
  expiresAt: '2026-07-01T12:00:10.000Z',
  openLocker: { locker: 'B', reservationId: RESERVATION, until: '2026-07-01T14:00:00.000Z' },
};

export const TOKEN_CLAIMS: OfflineTokenClaims = {
  aud: UNIT,
  sub: RESERVATION,
  locker: 'B',
  from: '2026-07-01T12:00:00.000Z',
  until: '2026-07-01T14:00:00.000Z',
  asOf: 107,
};

const EVENTS = [
  {
    seq: 42,
    v: 1,
    type: 'RentalStarted',
    time: '2026-07-01T12:00:01.250Z',
    locker: 'B',
    causationId: COMMAND.commandId,
    data: {
      rentalId: '0197c5ed-44e2-7000-8000-000000000003',
      reservationId: RESERVATION,
      until: '2026-07-01T14:00:00.000Z',
    },
  },
  {
    seq: 43,
    v: 1,
    type: 'LockerOpened',
    time: '2026-07-01T12:00:01.250Z',
    locker: 'B',
    causationId: COMMAND.commandId,
    data: { cause: 'command', commandId: COMMAND.commandId },
  },
] as const;

/** 16 bytes a line, each line behind the offset of its first byte, with a gap in the middle. */
function hexDump(bytes: Buffer): string {
  const lines: string[] = [];
  for (let offset = 0; offset < bytes.length; offset += 16) {
    const half = (from: number) => [...bytes.subarray(from, from + 8)].map((byte) => hexByte(byte)).join(' ');
    lines.push(`${String(offset).padStart(2)}  ${half(offset)}  ${half(offset + 8)}`);
  }
  return lines.join('\n');
}

function hexByte(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

const STATE_REPORT = {
  seq: 1,
  v: 1,
  type: 'UnitStateReported',
  time: '2026-07-01T08:00:00.000Z',
  data: {
    reason: 'new-epoch',
    configurationHash: defaultConfiguration(600).hash,
    lockers: [
      { id: 'A', door: 'closed' },
      {
        id: 'B',
        door: 'unknown',
        rental: {
          rentalId: '0197c5ec-1000-7000-8000-000000000004',
          startedAt: '2026-07-01T07:00:00.000Z',
          until: '2026-07-01T09:00:00.000Z',
        },
      },
    ],
  },
} as const;

/** Values whose canonical JSON has escapes, characters outside ASCII and members that have to be sorted. */
const VALUES_WITH_TEXTS = {
  ...defaultConfiguration(600).values,
  openingHours: [{ weekday: 1, opens: '08:00', closes: '24:00' }],
  texts: { pl: { welcome: 'Cześć!\nWybierz "skrytkę" 🧳', Welcome: 'a/b\\c' }, de: { welcome: 'Grüß Gott' } },
};

/** Values that the page has in a sentence, and not in a code block. */
export const PROSE: ReadonlySet<string> = new Set(['configurationHash', 'configurationWithTextsHash']);

/** The values of `docs/unit-protocol.md` by the name of their place. */
export async function protocolExample(): Promise<Record<string, string>> {
  const signer = await PlatformSigner.create(platformKey());
  const reply: PingReply = {
    unit: UNIT,
    bootId: '8f0011223344556a',
    uptimeS: 86_400,
    configurationHash: defaultConfiguration(600).hash,
    epoch: EPOCH,
    lastSeq: 41,
    time: '2026-07-01T12:00:00.040Z',
  };
  const ping = { unit: UNIT, nonce: NONCE, recorded: { epoch: EPOCH, seq: 40 }, clockMs: NOW_MS };
  const nonce = Buffer.from(NONCE, 'hex');
  const datagram = { nameHash: nameHash(UNIT), nonce, recorded: ping.recorded, clockMs: NOW_MS };
  const replied = { ...reply, flags: 0, clockMs: Date.parse(reply.time) };
  const firstPing = { unit: UNIT, nonce: NONCE, clockMs: NOW_MS };
  const { bootId, uptimeS, configurationHash, epoch, lastSeq, time } = reply;
  const fetchJws = await signer.fetch(UNIT, NOW_MS, `${EPOCH}:41`);
  const bodies = EVENTS.map((event) => JSON.stringify(event));
  return {
    unitKey: UNIT_KEY.toString('base64'),
    platformPublicKey: JSON.stringify(publicPlatformKey()),
    pushSubject: unitPushSubject(UNIT),
    heartbeatSubject: unitHeartbeatSubject(UNIT),
    pingMacInput: [UNIT, NONCE, `${EPOCH}:40`, String(NOW_MS)].join('\n'),
    ping: `GET ${pingPath(UNIT_KEY, ping)}`,
    firstPingMacInput: [UNIT, NONCE, '', String(NOW_MS)].join('\n'),
    firstPing: `GET ${pingPath(UNIT_KEY, firstPing)}`,
    pingReplyMacInput: [UNIT, NONCE, bootId, uptimeS, configurationHash, epoch, lastSeq, time].join('\n'),
    pingReply: JSON.stringify({ ...reply, nonce: NONCE, mac: pingReplyMac(UNIT_KEY, NONCE, reply) }),
    natsPing: natsPing(UNIT_KEY, ping),
    pingDatagram: hexDump(encodePing(UNIT_KEY, datagram)),
    pingDatagramReply: hexDump(encodePingReply(UNIT_KEY, nonce, replied)),
    heartbeat: JSON.stringify(reply),
    command: JSON.stringify(COMMAND),
    commandBody: JSON.stringify({ jws: await signer.command(UNIT, COMMAND, NOW_MS) }),
    commandAnswer: JSON.stringify({ commandId: COMMAND.commandId, status: 'done' }),
    stateReport: JSON.stringify(STATE_REPORT),
    batch: batchJson(UNIT, EPOCH, bodies),
    fetch: `GET /events?after=${EPOCH}:41&limit=500`,
    fetchToken: `Authorization: Bearer ${fetchJws}`,
    fetchRequest: JSON.stringify({ jws: fetchJws, after: `${EPOCH}:41`, limit: 500 }),
    commandsSubject: unitCommandsSubject(UNIT),
    fetched: batchJson(UNIT, EPOCH, bodies, { firstAvailableSeq: 42, lastSeq: 43, more: false }),
    tokenClaims: JSON.stringify(TOKEN_CLAIMS),
    offlineToken: await signer.offlineToken(TOKEN_CLAIMS),
    configuration: canonicalJson(defaultConfiguration(600).values),
    configurationHash,
    configurationWithTexts: canonicalJson(VALUES_WITH_TEXTS),
    configurationWithTextsHash: hashOf(VALUES_WITH_TEXTS),
  };
}

/**
 * The HTTP ping: `GET /ping?nonce=&recorded=EPOCH:SEQ&clock=&mac=` and its JSON answer. Both sides prove their
 * identity with a MAC of the unit key, because a unit deletes its log up to the place that a ping names as recorded.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import type { PingReply } from '../../domain/unit-protocol/commands.ts';

/** Bytes of the HMAC that are sent, as in the datagram. */
const MAC_BYTES = 16;

export interface PingRequest {
  readonly unit: string;
  /** 32 hex digits, new for every ping. */
  readonly nonce: string;
  /** The place in the unit's log up to which the platform has recorded everything. */
  readonly recorded?: { readonly epoch: string; readonly seq: number };
  /** The platform's clock, milliseconds since 1970. */
  readonly clockMs: number;
}

/** Path and query of a ping. */
export function pingPath(key: Uint8Array, request: PingRequest): string {
  const recorded = formatPlace(request.recorded);
  const query = new URLSearchParams({
    nonce: request.nonce,
    ...(recorded === '' ? {} : { recorded }),
    clock: String(request.clockMs),
    mac: pingMac(key, request),
  });
  return `/ping?${query}`;
}

/** The ping as a message on the unit's commands subject: the parameters of `pingPath` as JSON. */
export function natsPing(key: Uint8Array, request: PingRequest): string {
  const { unit, nonce, clockMs } = request;
  const recorded = formatPlace(request.recorded);
  const place = recorded === '' ? {} : { recorded };
  return JSON.stringify({ ping: { nonce, unit, ...place, clock: clockMs, mac: pingMac(key, request) } });
}

/** MAC of a request: hex of the first 16 bytes of HMAC-SHA256 over unit, nonce, recorded place and clock, one a line. */
export function pingMac(key: Uint8Array, { unit, nonce, recorded, clockMs }: PingRequest): string {
  return mac(key, [unit, nonce, formatPlace(recorded), String(clockMs)]);
}

/** MAC of an answer, over the nonce of the request and every field, one a line. */
export function pingReplyMac(key: Uint8Array, nonce: string, reply: PingReply): string {
  const { unit, bootId, uptimeS, configurationHash, epoch, lastSeq, time } = reply;
  return mac(key, [unit, nonce, bootId, String(uptimeS), configurationHash, epoch, String(lastSeq), time]);
}

/** Compares two MACs in constant time. */
export function sameMac(a: string, b: string): boolean {
  const left = Buffer.from(a, 'utf8');
  const right = Buffer.from(b, 'utf8');
  return left.length === right.length && timingSafeEqual(left, right);
}

/** Reads `EPOCH:SEQ`; `undefined` when `text` has another form. */
export function parsePlace(text: string): { epoch: string; seq: number } | undefined {
  const match = /^([0-9a-f-]{36}):(\d{1,15})$/.exec(text);
  return match?.[1] === undefined ? undefined : { epoch: match[1], seq: Number(match[2]) };
}

export function formatPlace(place: PingRequest['recorded']): string {
  return place === undefined ? '' : `${place.epoch}:${place.seq}`;
}

function mac(key: Uint8Array, lines: readonly string[]): string {
  return createHmac('sha256', key).update(lines.join('\n')).digest().subarray(0, MAC_BYTES).toString('hex');
}

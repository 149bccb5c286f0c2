/** Reads the JSON answer to a ping over HTTP or NATS. */

import { Value } from '@sinclair/typebox/value';
import { PingReply } from '../../domain/unit-protocol/commands.ts';
import { toMs } from '../../domain/vocabulary.ts';
import { pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';
import { EPOCH_BYTES } from '../units/unit-table.ts';
import { CONFIGURATION_HASH_BYTES, type ProbeReply } from './probe.ts';

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @returns the reply, or `undefined` when `body` is not an authentic answer of this unit to the ping with this nonce */
export function readJsonReply(unit: string, key: Uint8Array, nonce: string, body: Uint8Array): ProbeReply | undefined {
  const answer = parseJson(body);
  if (!Value.Check(PingReply, answer) || answer.unit !== unit || !('mac' in answer) || typeof answer.mac !== 'string') {
    return undefined;
  }
  // The MAC covers the nonce of this ping, so an answer to another ping fails here.
  if (!sameMac(answer.mac, pingReplyMac(key, nonce, answer))) return undefined;
  const bytes = Buffer.alloc(EPOCH_BYTES + CONFIGURATION_HASH_BYTES);
  // An epoch that is not a UUID stays zero: the reply then says nothing about the log.
  if (UUID.test(answer.epoch)) bytes.write(answer.epoch.replaceAll('-', ''), 0, 'hex');
  bytes.write(answer.configurationHash.slice(0, CONFIGURATION_HASH_BYTES * 2), EPOCH_BYTES, 'hex');
  const { lastSeq, time } = answer;
  return { bytes, epochAt: 0, configurationHashAt: EPOCH_BYTES, lastSeq, clockMs: toMs(time) };
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return undefined;
  }
}

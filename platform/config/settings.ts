/** Parses settings from the environment and collects a message for each setting that cannot be used. */

import { parseShardPrefixes } from '../../domain/shard-prefixes.ts';
import { isRange } from '../network/address-resolver.ts';

const MAX_SCHEDULE_LENGTH = 20;
const MAX_WAIT_S = 86_400;

export class Settings {
  /** A line for each setting that cannot be used. The default value replaces it. */
  readonly mistakes: string[] = [];
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  /** The text of a setting; an empty text counts as not set. */
  text(name: string): string | undefined {
    const raw = this.#env[name];
    return raw === '' ? undefined : raw;
  }

  integer(name: string, fallback: number, minimum: number, maximum: number): number {
    const raw = this.text(name);
    if (raw === undefined) return fallback;
    const value = /^-?\d+$/.test(raw) ? Number(raw) : Number.NaN;
    if (value >= minimum && value <= maximum) return value;
    this.mistakes.push(`${name} must be a whole number from ${minimum} to ${maximum}, not "${raw}"`);
    return fallback;
  }

  /** @returns undefined where it is not set */
  optionalInteger(name: string, minimum: number, maximum: number): number | undefined {
    return this.text(name) === undefined ? undefined : this.integer(name, minimum, minimum, maximum);
  }

  flag(name: string, fallback: boolean): boolean {
    const raw = this.text(name);
    if (raw === undefined) return fallback;
    if (raw !== 'true' && raw !== 'false') this.mistakes.push(`${name} must be true or false, not "${raw}"`);
    return raw === 'true';
  }

  /** @returns undefined where it is not set */
  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const raw = this.text(name);
    if (raw === undefined) return undefined;
    const chosen = choices.find((choice) => choice === raw);
    if (chosen === undefined) this.mistakes.push(`${name} must be ${choices.join(' or ')}, not "${raw}"`);
    return chosen;
  }

  /** One URL, or several with commas between them. */
  url(name: string, protocols: readonly string[]): string | undefined {
    const raw = this.text(name);
    if (raw === undefined) return undefined;
    const wrong = raw.split(',').some((part) => !protocols.includes(URL.parse(part)?.protocol ?? ''));
    if (wrong) this.mistakes.push(`${name} must be a URL (${protocols.join(' or ')}), not "${raw}"`);
    return raw;
  }

  /** Hash prefixes, and ranges of hash prefixes, with commas between them. */
  prefixes(name: string): readonly string[] | undefined {
    const raw = this.text(name);
    return raw === undefined
      ? undefined
      : parseShardPrefixes(raw, (mistake) => this.mistakes.push(`${name} ${mistake}`));
  }

  /** Ranges of addresses with commas between them. */
  ranges(name: string, fallback: readonly string[]): readonly string[] {
    const listed = this.text(name)
      ?.split(',')
      .map((range) => range.trim());
    for (const range of listed ?? []) {
      if (!isRange(range)) {
        this.mistakes.push(`${name} must be address ranges such as 169.254.0.0/16, not "${range}"`);
      }
    }
    return listed ?? fallback;
  }

  /** Waits in seconds with commas between them. */
  seconds(name: string, fallback: readonly number[]): readonly number[] {
    const raw = this.text(name);
    if (raw === undefined) return fallback;
    const waits = raw.split(',').map((wait) => (/^\d{1,5}$/.test(wait.trim()) ? Number(wait) : Number.NaN));
    const isValid = waits.length <= MAX_SCHEDULE_LENGTH && waits.every((wait) => wait >= 1 && wait <= MAX_WAIT_S);
    if (isValid) return waits;
    this.mistakes.push(`${name} must be 1 to ${MAX_SCHEDULE_LENGTH} waits of 1 to ${MAX_WAIT_S} seconds, not "${raw}"`);
    return fallback;
  }
}

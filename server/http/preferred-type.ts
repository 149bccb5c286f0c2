import Negotiator from 'negotiator';

/** The content type that a client prefers by its `Accept` header; the first one without a header or when it accepts none. */
export function preferredType<T extends string>(accept: string | undefined, types: readonly [T, ...T[]]): T {
  const preferred = new Negotiator({ headers: { accept } }).mediaType([...types]);
  return types.find((type) => type === preferred) ?? types[0];
}

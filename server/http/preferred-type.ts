import Negotiator from 'negotiator';

/** Which of these types a client prefers; the first one when it says nothing, or takes none of them. */
export function preferredType<T extends string>(accept: string | undefined, types: readonly [T, ...T[]]): T {
  const preferred = new Negotiator({ headers: { accept } }).mediaType([...types]);
  return types.find((type) => type === preferred) ?? types[0];
}

/** What a committed transaction changed. */
export interface Applied {
  readonly events: number;
  /** The units whose events were applied; `all` when they are not known: a transaction whose outcome is unknown may have committed. */
  readonly units: ReadonlySet<string> | 'all';
}

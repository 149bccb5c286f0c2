/** ETags of things that have a version, and the header with which a client changes only the version that it has read. */

import { Type } from '@sinclair/typebox';

/** The headers of a change that applies only to the version that the client has read. */
export function ifMatchHeader(description: string) {
  return Type.Object({
    'if-match': Type.Optional(
      Type.String({
        pattern: '^(\\*|"[1-9]\\d{0,8}")$',
        expects: '* or an ETag, such as "3" with its quotation marks',
        description,
      }),
    ),
  });
}

/** The version that `If-Match` names; `undefined` without one, and for `*`. */
export function versionIn(ifMatch: string | undefined): number | undefined {
  return ifMatch === undefined || ifMatch === '*' ? undefined : Number(ifMatch.slice(1, -1));
}

/** The `ETag` of a version. */
export function etagOf(version: number): string {
  return `"${version}"`;
}

/** Which errors of Postgres and its client are retryable. */

/** Reasons by error code: codes of the client and the operating system first, then SQLSTATE. Every other code is terminal. */
const RETRYABLE_ERROR_CODES: Readonly<Record<string, string>> = {
  // The connection failed.
  CONNECTION_CLOSED: 'the server closed the connection',
  CONNECTION_ENDED: 'the client was being closed',
  CONNECTION_DESTROYED: 'the client was closed in the middle of a query',
  CONNECT_TIMEOUT: 'the server did not answer in time',
  ECONNREFUSED: 'no server listens at the address',
  ECONNRESET: 'the connection broke',
  EPIPE: 'the connection broke while writing',
  ETIMEDOUT: 'the network did not answer',
  EHOSTUNREACH: 'there is no route to the host',
  ENETUNREACH: 'there is no route to the network',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the name service did not answer',
  '08000': 'connection exception',
  '08001': 'the client could not connect',
  '08003': 'the connection does not exist',
  '08004': 'the server rejected the connection',
  '08006': 'the connection failed',
  // The server is stopping, starting or failing over.
  '57P01': 'an administrator ended the connection',
  '57P02': 'the server crashed',
  '57P03': 'the server is starting or stopping',
  '25006': 'the server became a standby',
  // The server has run out of a resource.
  '53000': 'out of resources',
  '53100': 'the disk is full',
  '53200': 'out of memory',
  '53300': 'too many connections',
  // Concurrent transactions conflict, or a time limit ended the query or the transaction.
  '40001': 'the transaction conflicts with a concurrent one',
  '40P01': 'deadlock',
  '55P03': 'a lock was not available',
  '57014': 'the query was cancelled: it took too long',
  '25P03': 'the transaction was idle for too long',
};

/** The reason of a retryable error in words; undefined when the error is terminal. */
export function retryableReason(error: unknown): string | undefined {
  const code = codeOf(error);
  const reason = code === undefined ? undefined : RETRYABLE_ERROR_CODES[code];
  return reason === undefined ? undefined : `${reason} (${code})`;
}

/** The SQLSTATE of an error, or the code of the client or the operating system. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

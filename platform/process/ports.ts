/** Whether a server can listen on this address and port now. */
export function isPortFree(hostname: string, port: number): boolean {
  return tryListen(hostname, port) !== undefined;
}

/** A loopback port that is free now. Another process may bind it first: the caller must then call again. */
export function freePort(): number {
  const port = tryListen('127.0.0.1', 0);
  if (port === undefined)
    throw new Error('No port of 127.0.0.1 is free. End programs that hold many connections, then try again.');
  return port;
}

/** Listens on a port and closes it at once. @returns the port, or undefined when the port is in use. */
function tryListen(hostname: string, port: number): number | undefined {
  try {
    const listener = Bun.listen({ hostname, port, socket: { data: ignoreData } });
    const boundPort = listener.port;
    listener.stop(true);
    return boundPort;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') return undefined;
    throw error;
  }
}

function ignoreData(): void {
  // The listener closes at once, so it serves no client.
}

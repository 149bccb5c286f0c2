/** Whether a server could listen there now. */
export function isPortFree(hostname: string, port: number): boolean {
  return listenedOn(hostname, port) !== undefined;
}

/** A loopback port that was free a moment ago. Whoever binds it must be ready to lose the race and ask again. */
export function freePort(): number {
  const port = listenedOn('127.0.0.1', 0);
  if (port === undefined) throw new Error('this machine has no free loopback port');
  return port;
}

function listenedOn(hostname: string, port: number): number | undefined {
  try {
    const listener = Bun.listen({ hostname, port, socket: { data: ignoreData } });
    const taken = listener.port;
    listener.stop(true);
    return taken;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') return undefined;
    throw error;
  }
}

function ignoreData(): void {
  // Nobody is meant to connect in the instant that the port is held.
}

import { ConfigError } from '../../platform/config/config.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { logFormat } from '../../platform/observability/process-log.ts';
import { runSession, type SessionOptions, StartRefusedError } from './session.ts';

/** A terminal sends one Ctrl-C to all its processes, and some pass it on: signals within this time count as one. */
const SAME_CTRL_C_MS = 500;
const EXIT_REFUSED = 2;
const EXIT_KILLED = 130;

/**
 * Runs a session for this process: the first Ctrl-C, SIGTERM or closed terminal stops its processes in order, the second kills them.
 * @returns the exit code: 0 stopped, 1 the supervisor gave up on a process, 2 the session could not start, 130 killed
 */
export async function runInTerminal(
  locations: Pick<SessionOptions, 'root' | 'toolchainDir' | 'natsSetup'>,
): Promise<number> {
  const isTerminal = process.stderr.isTTY === true;
  const stop = new AbortController();
  const kill = new AbortController();
  let firstSignalMs = 0;
  const onSignal = () => {
    if (!stop.signal.aborted) {
      firstSignalMs = performance.now();
      process.stderr.write('\nStopping. Press Ctrl-C again to kill all processes.\n');
      stop.abort();
    } else if (performance.now() - firstSignalMs > SAME_CTRL_C_MS) {
      kill.abort();
    }
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  try {
    await runSession({
      ...locations,
      env: process.env,
      print: (line) => process.stdout.write(`${line}\n`),
      log: (line) => process.stderr.write(`${line}\n`),
      logFormat: logFormat(process.env.LOG_FORMAT, isTerminal),
      colour: isTerminal,
      stop: stop.signal,
      kill: kill.signal,
      nowMs: () => performance.now(),
      clock: Date.now,
    });
    return kill.signal.aborted ? EXIT_KILLED : 0;
  } catch (error) {
    process.stderr.write(`lockfleet: ${errorMessage(error)}\n`);
    return error instanceof StartRefusedError || error instanceof ConfigError ? EXIT_REFUSED : 1;
  }
}

import { spawnSync } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { userInfo } from 'node:os';

/**
 * How Postgres is run. Postgres refuses to run as root, so root runs it as another account. That account must reach the
 * cluster and the programs, which may lie below a folder that only root may enter, such as /root. `choosePostgresRunner` tries
 * the ways to run it in turn and takes the first that works.
 */
export interface PostgresRunner {
  /** The program and arguments that precede the command, such as `setpriv` and its options. */
  readonly prefix: readonly string[];
  /** The user that the new process changes to; undefined when `prefix` changes it, or when no change is needed. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** The owner of the cluster; undefined when that is the user of this process. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/** Accounts that may run Postgres, in order: the account made for it, then the account that every system has. */
const ACCOUNTS = ['postgres', 'nobody'];
/**
 * Capabilities that let a process enter folders whose mode excludes it, the narrower one before the other. Containers often
 * grant the second alone.
 */
const CAPABILITIES = ['dac_read_search', 'dac_override'];
/**
 * Keeps the capabilities in `access(2)`, which otherwise judges a process that is not root by its user alone. initdb and
 * postgres ask `access(2)` whether they may read their own programs.
 */
const KEEP_CAPABILITIES = '--securebits=+no_setuid_fixup';

/**
 * Chooses how this process runs the programs of Postgres, which refuse to run as root.
 * @param cluster the folder of the cluster, which need not exist
 * @param isUsable whether a runner can reach the folder and the programs
 * @throws Error that says what to do when no runner is usable
 */
export async function choosePostgresRunner(
  cluster: string,
  isUsable: (runner: PostgresRunner) => boolean,
): Promise<PostgresRunner> {
  const { uid } = userInfo();
  const owner = await ownerOf(cluster);
  if (uid !== 0) {
    if (owner === undefined || owner.uid === uid) return { prefix: [] };
    throw new Error(
      `The Postgres cluster in ${cluster} belongs to user ${owner.uid}, and this process runs as user ${uid}.\n  what to do: start as user ${owner.uid}, or with another DATA_DIR`,
    );
  }
  const account = owner !== undefined && owner.uid !== 0 ? owner : findAccount();
  const asUser = [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--clear-groups'];
  const runners: PostgresRunner[] = [
    { prefix: [], user: account, owner: account },
    ...CAPABILITIES.map((name) => ({
      prefix: ['setpriv', ...asUser, KEEP_CAPABILITIES, `--inh-caps=+${name}`, `--ambient-caps=+${name}`],
      owner: account,
    })),
  ];
  const usable = runners.find(isUsable);
  if (usable === undefined) {
    throw new Error(
      `Postgres cannot run as root, and user ${account.uid} cannot reach ${cluster} or the programs of Postgres: their folders are closed to it, and setpriv is missing or may not grant it a capability to enter.\n  what to do: move the checkout and DATA_DIR to folders that other users may enter, start as an ordinary user, or set DATABASE_URL`,
    );
  }
  return usable;
}

async function ownerOf(folder: string): Promise<{ uid: number; gid: number } | undefined> {
  try {
    return await stat(folder);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function findAccount(): { uid: number; gid: number } {
  for (const name of ACCOUNTS) {
    const uid = idOf('-u', name);
    const gid = idOf('-g', name);
    if (uid !== undefined && gid !== undefined) return { uid, gid };
  }
  throw new Error(
    `Postgres cannot run as root, and this system has none of the accounts ${ACCOUNTS.join(', ')}.\n  what to do: start as an ordinary user, or set DATABASE_URL`,
  );
}

function idOf(flag: '-u' | '-g', name: string): number | undefined {
  const { status, stdout } = spawnSync('id', [flag, name], { encoding: 'utf8' });
  return status === 0 ? Number(stdout.trim()) : undefined;
}

import { spawnSync } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { userInfo } from 'node:os';

/**
 * Postgres refuses to run as root. A root that starts it hands it to another account, and that account must reach the
 * data and the binaries, which may lie below a folder that only root can enter. So the ways to run it are tried in
 * turn, and the first that works is taken.
 */
export interface PostgresRunner {
  /** Stands before the command. */
  readonly prefix: readonly string[];
  /** Set when the process itself must change its user. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Who owns the data; undefined when that is whoever runs this. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/** Accounts that may run the database, in order: the one made for it, then the one that every system has. */
const ACCOUNTS = ['postgres', 'nobody'];
/** What lets a process enter folders that are closed to it; containers often grant only the second. */
const CAPABILITIES = ['dac_read_search', 'dac_override'];

/**
 * @param cluster the folder of the database, which need not exist.
 * @param isUsable says whether a way to run works: whether it reaches the folder and the binaries.
 * @throws with what to do when no way works.
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
      `the database in ${cluster} belongs to user ${owner.uid}, and this is user ${uid}\n  what to do: start it as the user that made it, or with another DATA_DIR`,
    );
  }
  const account = owner !== undefined && owner.uid !== 0 ? owner : findAccount();
  const asUser = [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--clear-groups'];
  const runners: PostgresRunner[] = [
    { prefix: [], user: account, owner: account },
    ...CAPABILITIES.map((name) => ({
      prefix: ['setpriv', ...asUser, `--inh-caps=+${name}`, `--ambient-caps=+${name}`],
      owner: account,
    })),
  ];
  const usable = runners.find(isUsable);
  if (usable === undefined) {
    throw new Error(
      `Postgres cannot run as root, and user ${account.uid} cannot enter ${cluster} or the folder of its binaries\n  what to do: keep the checkout and DATA_DIR where other users may enter (not below /root), start as a normal user, or set DATABASE_URL`,
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
    `Postgres cannot run as root, and this system has none of the accounts ${ACCOUNTS.join(', ')}\n  what to do: start as a normal user, or set DATABASE_URL`,
  );
}

function idOf(flag: '-u' | '-g', name: string): number | undefined {
  const { status, stdout } = spawnSync('id', [flag, name], { encoding: 'utf8' });
  return status === 0 ? Number(stdout.trim()) : undefined;
}

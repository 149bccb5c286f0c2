/** The script `run`, in a new checkout: how it gets its Bun and the dependencies, and how it fails. Stubs stand for bun and npm. */

import { beforeEach, describe, expect, test } from 'bun:test';
import { chmod, cp, mkdir, rm, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { temporaryFolder } from '../support/cleanup.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const TOOLS = ['sh', 'cat', 'cmp', 'cp', 'dirname', 'mkdir', 'sed', 'tail'];
const { packageManager } = (await Bun.file(join(ROOT, 'package.json')).json()) as { packageManager: string };
const PINNED = packageManager.replace('bun@', '');

/** The checkout, without node_modules and .toolchain. */
let checkout: string;
/** The only folder on the PATH: the tools that the script needs, and the stubs of a test. */
let bin: string;

beforeEach(async () => {
  const folder = await temporaryFolder('run-script');
  checkout = join(folder, 'a checkout');
  bin = join(folder, 'bin');
  await Promise.all([mkdir(checkout), mkdir(bin)]);
  for (const file of ['run', 'package.json', 'bun.lock']) await cp(join(ROOT, file), join(checkout, file));
  for (const tool of TOOLS) await symlink(Bun.which(tool) ?? tool, join(bin, tool));
});

/** A bun that answers its version, fails an install when `install-fails` exists, and prints what it is asked to run. */
const bunStub = (version: string) => `#!/bin/sh
case $1 in
  --version) echo ${version} ;;
  install)
    echo "$*" >>installs
    if [ -e install-fails ]; then echo 'the registry is down'; exit 1; fi
    mkdir -p node_modules ;;
  run) echo "$*" ;;
esac
`;

async function writeProgram(path: string, text: string): Promise<void> {
  await Bun.write(path, text);
  await chmod(path, 0o755);
}

/** An npm that installs a bun of that version into the folder after `--prefix`. */
const npmStub = (version: string) => `#!/bin/sh
echo "$*" >>npm-calls
mkdir -p "$3/node_modules/.bin"
cat >"$3/node_modules/.bin/bun" <<'STUB'
${bunStub(version)}STUB
"${Bun.which('chmod') ?? 'chmod'}" 755 "$3/node_modules/.bin/bun"
`;

async function run(...args: string[]): Promise<{ code: number; out: string; errors: string }> {
  const child = Bun.spawn([join(checkout, 'run'), ...args], {
    cwd: bin,
    env: { PATH: bin, HOME: checkout },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [code, out, errors] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { code, out, errors };
}

async function installs(): Promise<string[]> {
  const file = Bun.file(join(checkout, 'installs'));
  return (await file.exists()) ? (await file.text()).trim().split('\n') : [];
}

describe('without Bun', () => {
  test('prints the table of commands and exits with status 0 when no command is given', async () => {
    const { code, out } = await run();
    expect(code).toBe(0);
    for (const command of ['start', 'test', 'check', 'token', 'sim', 'projections', 'bench', 'mutants']) {
      expect(out).toContain(`./run ${command}`);
    }
  });

  test.each(['dance', '../start', 'START'])(
    'refuses the unknown command %s with status 2 and the table',
    async (name) => {
      const { code, out, errors } = await run(name);
      expect({ code, out }).toEqual({ code: 2, out: '' });
      expect(errors).toContain(`there is no command "${name}"`);
      expect(errors).toContain('./run start');
    },
  );

  test('fails with status 1 and says what to install when the PATH has neither npm nor bun', async () => {
    const { code, out, errors } = await run('check');
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(errors).toContain('why: neither npm nor any bun is on the PATH');
    expect(errors).toContain('what to do: install Node.js with npm');
  });

  test('fetches the pinned Bun with npm into the checkout, and does so once', async () => {
    await writeProgram(join(bin, 'npm'), npmStub(PINNED));
    for (const attempt of [1, 2]) {
      const { code, out, errors } = await run('token', '--role', 'ops');
      expect({ attempt, code, out }).toEqual({ attempt, code: 0, out: 'run commands/token.ts --role ops\n' });
      expect(errors.includes('fetching bun')).toBe(attempt === 1);
    }
    const calls = (await Bun.file(join(checkout, 'npm-calls')).text()).trim().split('\n');
    expect(calls).toEqual([expect.stringContaining(`bun@${PINNED}`)]);
  });

  test('fails with the last lines of npm when npm fails', async () => {
    await writeProgram(join(bin, 'npm'), "#!/bin/sh\necho 'E404: no such package' >&2\nexit 1\n");
    const { code, errors } = await run('check');
    expect(code).toBe(1);
    expect(errors).toContain('why: E404: no such package');
  });

  test('fails when the Bun that npm installed does not run as the pinned version', async () => {
    await writeProgram(join(bin, 'npm'), npmStub('0.0.1'));
    const { code, errors } = await run('check');
    expect(code).toBe(1);
    expect(errors).toContain(`does not run here as bun ${PINNED}`);
  });
});

describe('with the pinned Bun on the PATH', () => {
  beforeEach(() => writeProgram(join(bin, 'bun'), bunStub(PINNED)));

  test('installs the locked dependencies before the first command, and again after the lock file changed', async () => {
    expect(await run('check')).toMatchObject({ code: 0, out: 'run commands/check.ts\n' });
    expect(await installs()).toEqual(['install --frozen-lockfile']);
    expect(await run('check')).toMatchObject({ code: 0, errors: '' });
    expect(await installs()).toHaveLength(1);
    await Bun.write(join(checkout, 'bun.lock'), 'another lock file');
    expect((await run('check')).code).toBe(0);
    expect(await installs()).toHaveLength(2);
  });

  test('fails with status 1 and the reason when the install fails, and tries again at the next command', async () => {
    await Bun.write(join(checkout, 'install-fails'), '');
    const { code, out, errors } = await run('check');
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(errors).toContain('the locked dependencies could not be installed');
    expect(errors).toContain('why: the registry is down');
    await rm(join(checkout, 'install-fails'));
    expect(await run('check')).toMatchObject({ code: 0, out: 'run commands/check.ts\n' });
  });
});

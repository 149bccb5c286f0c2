/** Every file and link that the documentation names exists, so that moving a file shows which page to change. */

import { expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dir, '..', '..', '..');
/** The first folder of a path that is a file or folder of the repository. */
const ROOMS = /^(\.ci|commands|device-sim|docs|domain|pinger|platform|projections|server|tests)\//;
/** Paths that stand for several files. */
const PATTERN = /[*{}…]/;

async function pages(): Promise<string[]> {
  const found = await Array.fromAsync(new Bun.Glob('docs/**/*.md').scan({ cwd: ROOT }));
  return ['README.md', ...found.toSorted()];
}

/** Paths in code spans; without an ending, a path may name a folder or a TypeScript file. */
function pathsIn(markdown: string): string[] {
  return [...markdown.matchAll(/`([\w./*{}…-]+)`/g)].flatMap(([, path = '']) =>
    ROOMS.test(path) && !PATTERN.test(path) ? [path] : [],
  );
}

function linksIn(markdown: string): string[] {
  return [...markdown.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].flatMap(([, link = '']) =>
    /^[a-z]+:/.test(link) ? [] : [link],
  );
}

const isThere = (path: string) => existsSync(path) || existsSync(`${path}.ts`);

test.each(await pages())('%s names only files that exist', async (page) => {
  const markdown = await Bun.file(join(ROOT, page)).text();
  expect(pathsIn(markdown).filter((path) => !isThere(join(ROOT, path)))).toEqual([]);
  expect(linksIn(markdown).filter((link) => !existsSync(join(ROOT, dirname(page), link)))).toEqual([]);
});

test('pages and paths are found at all', async () => {
  const all = await pages();
  expect(all.length).toBeGreaterThan(20);
  expect(pathsIn(await Bun.file(join(ROOT, 'docs/architecture.md')).text()).length).toBeGreaterThan(30);
});

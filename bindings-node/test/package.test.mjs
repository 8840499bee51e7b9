// The package as others get it: packed, installed into a clean folder, loaded both ways; its typings.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

function folder(t) {
  const made = mkdtempSync(path.join(tmpdir(), 'wsguard-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  writeFileSync(path.join(made, 'package.json'), '{"private":true}');
  return made;
}

const npm = (cwd, ...args) => execFileSync('npm', [...args, '--no-audit', '--no-fund', '--silent'], { cwd, encoding: 'utf8' });
const node = (cwd, ...args) => execFileSync(process.execPath, args, { cwd, encoding: 'utf8' });

const PROGRAM = `
const server = new Server({ listen: '127.0.0.1:0', origins: ['https://a.example'], auth: 'none' });
server.listen().then((address) => server.drain().then(() => console.log(/^127/.test(address))));`;
const TESTING = `import { Server } from 'wsguard'; import { connect } from 'wsguard/testing';
const server = new Server({ listen: '127.0.0.1:0', origins: ['https://a.example'], auth: 'none' });
await server.listen();
const client = await connect(server);
console.log((await client.close()).code);
await server.drain();`;

function loads(cwd) {
  assert.equal(node(cwd, '--input-type=module', '-e', `import { Server } from 'wsguard'; ${PROGRAM}`), 'true\n');
  assert.equal(node(cwd, '--input-type=module', '-e', `import wsguard from 'wsguard'; const { Server } = wsguard; ${PROGRAM}`), 'true\n');
  assert.equal(node(cwd, '--input-type=module', '-e', TESTING), '1000\n');
  assert.equal(node(cwd, '-e', `const { Server } = require('wsguard'); ${PROGRAM}`), 'true\n');
}

/** The files of lib/, by name. */
const sources = Object.fromEntries(
  readdirSync(path.join(root, 'lib')).map((name) => [name, readFileSync(path.join(root, 'lib', name), 'utf8')]),
);

test('no file of lib/ requires itself, not even by way of others', () => {
  const required = (name) => [...sources[name].matchAll(/require\('\.\/([\w.]+)'\)/g)].map(([, other]) => other);
  const visit = (name, way) => {
    assert.ok(!way.includes(name), `a circle: ${[...way, name].join(' → ')}`);
    for (const other of required(name)) visit(other, [...way, name]);
  };
  for (const name of Object.keys(sources)) visit(name, []);
});

test('the native side has every number of records and commands that lib/ reads', () => {
  const numbers = createRequire(import.meta.url)('../lib/records.js');
  const ofRecords = Object.values(sources).flatMap((text) => [...text.matchAll(/\brecords\.([A-Z_]+)/g)].map(([, name]) => name));
  const taken = Object.values(sources).flatMap((text) => [...text.matchAll(/const \{([^}]*)\} = require\('\.\/records\.js'\)/g)]);
  const ofCommands = taken.flatMap(([, list]) => list.match(/[A-Z_]+/g));
  const names = new Set([...ofRecords, ...ofCommands]);
  assert.deepEqual([...names].sort(), Object.keys(numbers).sort());
  for (const [name, number] of Object.entries(numbers)) assert.ok(Number.isInteger(number) && number > 0, `${name} ${number}`);
});

test('the packages that are published load in a clean folder, and nothing of them runs at their installation', (t) => {
  const cwd = folder(t);
  const { localFile, platform } = createRequire(import.meta.url)('../lib/native.js');
  const stated = `${platform()}:${process.arch}:${platform().endsWith('musl') ? 'musl' : 'glibc'}:${localFile()}`;
  // It throws where a file that a manifest promises is not packed, or where a package has a script.
  const packed = node(root, 'scripts/pack.mjs', cwd, path.join(root, 'README.md'), stated);
  const archives = packed.split('\n').map((line) => line.split(':')[0]).filter((name) => name.endsWith('.tgz'));
  assert.equal(archives.length, 3, packed);
  npm(cwd, 'install', '--offline', ...archives.map((name) => path.join(cwd, name)));
  loads(cwd);
  assert.match(execFileSync(path.join(cwd, 'node_modules', '.bin', 'wsguard'), ['--version'], { encoding: 'utf8' }), /^wsguard /);
});

test('npm install of the folder of a clone loads', (t) => {
  const cwd = folder(t);
  npm(cwd, 'install', root);
  loads(cwd);
});

test('where the addon is not there the error says what to do: in a clone, in an installation, on a platform without one, in a bundle', (t) => {
  const cwd = folder(t);
  mkdirSync(path.join(cwd, 'lib'));
  writeFileSync(path.join(cwd, 'lib/native.js'), readFileSync(path.join(root, 'lib/native.js')));
  const said = (manifest, before = '') => {
    writeFileSync(path.join(cwd, 'package.json'), JSON.stringify(manifest));
    const program = `${before}; try { require('./lib/native.js').load() } catch (error) { console.log(error.code, error.message) }`;
    return node(cwd, '-e', program);
  };
  const { platform } = createRequire(import.meta.url)('../lib/native.js');
  const name = `@wsguard/${platform()}`;
  const installed = { name: 'wsguard', version: '7.8.9', optionalDependencies: { [name]: '7.8.9' } };
  assert.match(said({ name: 'wsguard', version: '7.8.9' }), /^addon_missing .*In a clone, .*bindings-node\/build.sh/);
  assert.ok(said(installed).includes(`npm install ${name}@7.8.9`));
  assert.match(said(installed, "Object.defineProperty(process, 'arch', { value: 's390x' })"), new RegExp(`There are packages for ${name};`));
  assert.match(said({ name: 'an-application', version: '1.0.0' }), /esbuild --external:wsguard/);
});

test('the generated typings are what the core says', () => {
  node(root, 'scripts/typings.mjs', '--check');
});

test('the typings hold what they promise', () => {
  const { status, stdout } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '-p', 'types-test'], { cwd: root, encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});

test('everything that is exported has a type, and the other way round', () => {
  const program = 'const w = require("./index.js"); console.log(JSON.stringify(Object.keys(w).sort()))';
  const declared = node(root, '-e', `
    const ts = require('typescript');
    const program = ts.createProgram(['index.d.ts'], { module: ts.ModuleKind.NodeNext });
    const checker = program.getTypeChecker();
    const symbols = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile('index.d.ts')));
    const values = symbols.filter((one) => one.flags & ts.SymbolFlags.Value).map((one) => one.name).sort();
    console.log(JSON.stringify(values));`);
  assert.equal(node(root, '-e', program), declared);
});

test('every method of Server and Connection that is typed is there, and the other way round', () => {
  const found = node(root, '-e', `
    const ts = require('typescript');
    const { Server } = require('./index.js');
    const { Connection } = require('./lib/connection.js');
    const program = ts.createProgram(['index.d.ts'], { module: ts.ModuleKind.NodeNext });
    const source = program.getSourceFile('index.d.ts');
    const INTERNAL = new Set(['constructor']);
    const typed = (name) => {
      const node = source.statements.find((one) => one.name?.text === name && one.members);
      return new Set(node.members.map((one) => one.name?.text).filter((one) => one && !INTERNAL.has(one)));
    };
    const conn = new Connection({}, 0, 0, {}, undefined);
    const names = (prototype, own = []) => [...Object.getOwnPropertyNames(prototype), ...own].filter((one) => !INTERNAL.has(one));
    // Inherited ones are typed for their listeners only.
    const INHERITED = ['addListener', 'once', 'prependListener', 'prependOnceListener', 'removeAllListeners', 'removeListener', 'on', 'off'];
    const check = (name, present) => {
      const wanted = typed(name);
      const missing = [...wanted].filter((one) => !present.includes(one) && !INHERITED.includes(one));
      const untyped = present.filter((one) => !wanted.has(one) && !INHERITED.includes(one));
      if (missing.length + untyped.length > 0) console.log(name, { missing, untyped });
    };
    check('Server', names(Server.prototype, names(Object.getPrototypeOf(Server.prototype))));
    check('Connection', names(Connection.prototype, names(Object.getPrototypeOf(Connection.prototype), Object.keys(conn))));`);
  assert.equal(found, '');
});

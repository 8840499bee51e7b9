// What is published: small, and what the sources give.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { connect } from '../client.min.js';
import { bundle } from '../scripts/build.mjs';

const file = (name) => readFile(new URL(`../${name}`, import.meta.url), 'utf8');
const MOST_BYTES = 3072;

test(`client.min.js has at most ${MOST_BYTES} bytes, gzipped`, async () => {
  const bytes = gzipSync(await file('client.min.js'), { level: 9 }).length;
  assert.ok(bytes <= MOST_BYTES, `${bytes} bytes`);
});

test('client.min.js is what the sources give (npm run build)', async () => {
  assert.equal(await file('client.min.js'), await bundle());
});

test('it needs nothing, and what it exports is in its typings', async () => {
  const { dependencies, peerDependencies } = JSON.parse(await file('package.json'));
  assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
  assert.doesNotMatch(await file('client.min.js'), /\bimport\b/);
  const typings = await file('client.d.ts');
  for (const name of Object.keys(await import('../client.min.js'))) {
    assert.match(typings, new RegExp(`export (class|function) ${name}\\b`));
  }
  const client = connect('wss://chat.example/', { WebSocket: class {}, signal: AbortSignal.abort() });
  for (const name of Object.keys(client)) assert.match(typings, new RegExp(`^  (readonly )?${name}[(:<]`, 'm'));
});

test('the name of the package gives the bundle, and the sources while developing', () => {
  const resolve = (...flags) =>
    execFileSync(process.execPath, [...flags, '--input-type=module', '-e', "console.log(import.meta.resolve('@wsguard/client'))"], {
      cwd: new URL('..', import.meta.url),
      encoding: 'utf8',
    }).trim();
  assert.match(resolve(), /\/client\.min\.js$/);
  assert.match(resolve('--conditions=development'), /\/src\/client\.js$/);
});

test('npm packs the bundle, the sources, the typings and the README, and nothing else', () => {
  const [{ files }] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: new URL('..', import.meta.url),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  );
  const sources = ['client', 'error', 'options', 'token', 'verdict'].map((name) => `src/${name}.js`);
  assert.deepEqual(
    files.map(({ path }) => path).sort(),
    ['README.md', 'client.d.ts', 'client.min.js', 'package.json', ...sources].sort(),
  );
});

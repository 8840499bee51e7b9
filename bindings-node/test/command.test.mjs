// The command wsguard by its door for Node. What it does is tested in core/cli.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const meta = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const program = path.join(root, meta.bin.wsguard);

function command(args, more = {}) {
  return spawnSync(process.execPath, [program, ...args], { encoding: 'utf8', timeout: 60_000, ...more });
}

function policyFile(t, policy) {
  const folder = mkdtempSync(path.join(tmpdir(), 'wsguard-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'policy.json');
  writeFileSync(file, JSON.stringify(policy));
  return file;
}

test('help names how it was called', () => {
  const env = { ...process.env, npm_command: 'exec' };
  assert.match(command(['--help'], { env }).stdout, /Usage: npx wsguard <COMMAND>/);
  assert.match(command(['check', '--help'], { env: { ...env, npm_command: '' } }).stdout, /Usage: wsguard check/);
  assert.equal(command(['--version']).stdout, `wsguard ${meta.version}\n`);
});

test('a policy in the spelling of Node is checked; exit codes and streams', (t) => {
  const good = command(['check', policyFile(t, { origins: ['https://a.example'], auth: 'callback', missingOrigin: 'deny' })]);
  assert.deepEqual([good.status, good.stderr], [0, '']);
  assert.match(good.stdout, /its options are sound/);
  const bad = command(['check', '-'], { input: '{}' });
  assert.deepEqual([bad.status, bad.stdout], [2, '']);
  assert.match(bad.stderr, /missing_option: origins: /);
});

test('control-C ends a server', { skip: process.platform === 'win32' }, async (t) => {
  const file = policyFile(t, { listen: '127.0.0.1:0', origins: ['https://a.example'], auth: 'none' });
  const server = spawn(process.execPath, [program, 'serve', file], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => server.kill('SIGKILL'));
  const exited = once(server, 'exit');
  let told = '';
  for await (const text of server.stdout) {
    if (!told.includes('listens') && (told + text).includes('listens')) server.kill('SIGINT');
    told += text;
  }
  assert.match(told, /ends/);
  assert.deepEqual(await exited, [0, null]);
});

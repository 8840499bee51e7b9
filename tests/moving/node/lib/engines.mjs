// Each application runs on ws, which proves the test, and on wsguard/ws. ENGINE=ws or ENGINE=wsguard takes one of them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const EXAMPLES = new URL('../../../../examples/node/moving/', import.meta.url);
const require = createRequire(import.meta.url);

/** The origin that every policy here lists. */
export const ORIGIN = 'http://localhost:3000';

const ENGINES = {
  ws: {
    name: 'ws',
    isGuarded: false,
    preload: [new URL('on-ws.mjs', import.meta.url).href],
    load: () => require('./ws-as-guard.cjs'),
  },
  wsguard: {
    name: 'wsguard/ws',
    isGuarded: true,
    preload: [],
    load: () => require('wsguard/ws'),
  },
};
const engines = process.env.ENGINE ? [ENGINES[process.env.ENGINE]] : Object.values(ENGINES);

/** A test on each engine: `body(t, engine)`. */
export function onEach(name, body) {
  for (const engine of engines) test(`${name} (${engine.name})`, { timeout: 60_000 }, (t) => body(t, engine));
}

/** A test of what only a policy does. */
export function onGuarded(name, body) {
  for (const engine of engines.filter(({ isGuarded }) => isGuarded)) test(name, { timeout: 60_000 }, (t) => body(t, engine));
}

/** Starts an example on any port. Resolves when it says where it listens. */
export async function start(t, engine, example, { alias = false, env = {}, file = new URL(example, EXAMPLES) } = {}) {
  // On ws, a library that asks for ws has it already.
  const preload = alias && engine.isGuarded ? [new URL('alias.mjs', EXAMPLES).href] : engine.preload;
  const child = spawn(process.execPath, [...preload.flatMap((url) => ['--import', url]), fileURLToPath(file)], {
    cwd: fileURLToPath(EXAMPLES),
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  const line = await Promise.race([
    once(createInterface(child.stdout), 'line').then(([text]) => text),
    ended.then(() => Promise.reject(new Error(`${example} ended: ${stderr}`))),
  ]);
  // What the example has written may still be in the pipe when its client has had the answer.
  const complains = async (pattern) => {
    while (!pattern.test(stderr)) await once(child.stderr, 'data', { signal: t.signal });
  };
  return { child, address: line.split(' ').at(-1), ended, stderr: () => stderr, complains };
}

/** SIGTERM ends an example that closes what it has open. */
export async function stop({ child, ended }) {
  child.kill('SIGTERM');
  const [code, signal] = await ended;
  if (code !== 0) throw new Error(`the example ended with ${code ?? signal}`);
}

// The examples run as they are.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';

async function start(t, name, env) {
  const child = spawn(process.execPath, [fileURLToPath(new URL(name, import.meta.url))], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const lines = createInterface(child.stdout);
  const [line] = await once(lines, 'line');
  return { child, lines, address: line.split(' ').at(-1) };
}

/** Resolves with the first message of `event`. */
function event(ws, name) {
  return new Promise((resolve) => {
    ws.on('message', (text) => {
      const message = JSON.parse(text);
      if (message.event === name) resolve(message.data);
    });
  });
}

test('quickstart', async (t) => {
  const { address } = await start(t, 'quickstart.mjs', { LISTEN: '127.0.0.1:0' });
  const ws = new WebSocket(`ws://${address}/`, ['bearer', 'change-me'], { origin: 'http://localhost:3000' });
  await once(ws, 'open');
  ws.send('{"event":"say","data":{"text":"hello"}}');
  assert.deepEqual(await event(ws, 'said'), { from: 'alice', text: 'hello' });
});

for (const readme of ['../../README.md', '../../bindings-node/README.md']) {
  test(`the start of ${readme}`, async (t) => {
    const text = await readFile(new URL(readme, import.meta.url), 'utf8');
    const [, code] = /```js\n(import \{ Server.*?)```/s.exec(text);
    // Beside this file, so that `wsguard` is found as it is in an application.
    const name = `start-${process.pid}-${readme.length}.tmp.mjs`;
    await writeFile(new URL(name, import.meta.url), code.replace('127.0.0.1:8080', '127.0.0.1:0'));
    t.after(() => rm(new URL(name, import.meta.url)));
    const { address } = await start(t, name);
    const ws = new WebSocket(`ws://${address}/`, ['bearer', 'change-me'], { origin: 'http://localhost:3000' });
    await once(ws, 'open');
    ws.send('{"event":"say","data":{"text":"hello"}}');
    assert.deepEqual(await event(ws, 'said'), { user: 'alice', text: 'hello' });
  });
}

test('a policy in a file, and SIGHUP', async (t) => {
  const policy = JSON.parse(await readFile(new URL('policy.json', import.meta.url), 'utf8'));
  const file = fileURLToPath(new URL(`policy-${process.pid}.tmp.json`, import.meta.url));
  const write = (more) => writeFile(file, JSON.stringify({ ...policy, listen: '127.0.0.1:0', ...more }));
  await write();
  t.after(() => rm(file));
  const { address, child, lines } = await start(t, 'policy-file.mjs', { POLICY: file });
  const reload = async (more) => {
    await write(more);
    const said = once(lines, 'line');
    child.kill('SIGHUP');
    return (await said)[0];
  };
  const ws = new WebSocket(`ws://${address}/`, ['bearer', 'change-me'], { origin: 'http://localhost:3000' });
  await once(ws, 'open');
  ws.send('{"event":"wipe"}');
  await event(ws, 'wiped');
  assert.match(await reload({ threads: 7 }), /stays as it is: threads: /);
  // The connection may be over before the program has said its line.
  const closed = once(ws, 'close');
  assert.equal(await reload({ auth: { tokens: [{ token: 'other', user: 'bob' }] } }), 'policy 2 is in force');
  const [code, reason] = await closed;
  assert.deepEqual([code, String(reason)], [1008, 'session revoked']);
});

test('Express with a session', async (t) => {
  const { address, child } = await start(t, 'express-session-chat.mjs', { PORT: '0' });
  const url = `ws://${address}/chat`;
  const origin = `http://${address}`;
  const stranger = new WebSocket(url, { origin });
  const [, response] = await once(stranger, 'unexpected-response');
  assert.equal(response.statusCode, 401);
  const login = await fetch(`${origin}/login`, { method: 'POST', body: new URLSearchParams({ name: 'bob' }), redirect: 'manual' });
  const cookie = login.headers.get('set-cookie').split(';')[0];
  const ws = new WebSocket(url, { origin, headers: { cookie } });
  assert.deepEqual(await event(ws, 'joined'), { user: 'bob' });
  ws.send('{"event":"say","data":{"text":"hello"}}');
  assert.deepEqual(await event(ws, 'said'), { from: 'bob', text: 'hello' });
  child.kill('SIGTERM');
  assert.equal((await once(ws, 'close'))[0], 1012);
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('Fastify', async (t) => {
  const { address, child } = await start(t, 'fastify.mjs', { PORT: '0' });
  const ws = new WebSocket(`ws://${address}/ws`, { origin: 'http://localhost:3000', headers: { authorization: 'Bearer change-me' } });
  await once(ws, 'open');
  ws.send('{"event":"subscribe","data":{"topic":"ticks"},"id":1}');
  assert.equal(typeof (await event(ws, 'tick')).at, 'number');
  assert.equal((await (await fetch(`http://${address}/stats`)).json()).open, 1);
  child.kill('SIGTERM');
  assert.equal((await once(ws, 'close'))[0], 1012);
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

// Clients that are not ws: isomorphic-ws, the WebSocket that Node has from the browsers, Chromium with and without Socket.IO.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import IsomorphicWebSocket from 'isomorphic-ws';
import { chromium } from 'playwright-core';
import { connect } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded, start } from '../lib/engines.mjs';

const PROTOCOLS = ['bearer', 'change-me'];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // The pages come from this test and not from this machine's network, which would ask the visitor before it lets them in.
  args: ['--disable-features=LocalNetworkAccessChecks', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'],
  chromiumSandbox: false,
});
after(() => browser.close());

/** An empty page of `origin`, where nothing needs to listen. */
async function visit(t, origin) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.route(`${origin}/`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>page</title>' }));
  await page.goto(`${origin}/`);
  return page;
}

onEach('isomorphic-ws', async (t, engine) => {
  const { address } = await start(t, engine, 'chat.mjs');
  const other = await connect(t, `ws://${address}/lobby`, { protocols: PROTOCOLS });
  const ws = new IsomorphicWebSocket(`ws://${address}/lobby`, PROTOCOLS, { origin: ORIGIN });
  ws.onopen = () => ws.send('isomorphic');
  assert.equal(await other.next(), 'welcome to /lobby');
  assert.equal(await other.next(), 'isomorphic');
  ws.close(1000);
  assert.equal((await once(ws, 'close'))[0], 1000);
});

onEach("Node's own WebSocket", async (t, engine) => {
  const { address } = await start(t, engine, 'chat.mjs');
  const other = await connect(t, `ws://${address}/lobby`, { protocols: PROTOCOLS });
  const page = fileURLToPath(new URL('../fixtures/page.mjs', import.meta.url));
  const seen = promisify(execFile)(process.execPath, ['--no-warnings', '--experimental-websocket', page, `ws://${address}/lobby`, ORIGIN]);
  assert.equal(await other.next(), 'welcome to /lobby');
  assert.equal(await other.next(), 'from a page');
  assert.deepEqual(await other.next(), Buffer.from('blob'));
  assert.deepEqual(await other.next(), Buffer.from([1, 2, 3]));
  other.send(Buffer.from([9]));
  other.send('goodbye');
  assert.deepEqual(JSON.parse((await seen).stdout), {
    messages: ['welcome to /lobby', [9], 'goodbye'],
    protocol: 'bearer',
    code: 4000,
    reason: engine.isGuarded ? '' : 'done',
    wasClean: true,
  });
});

onEach('Chromium: the ws chat', async (t, engine) => {
  const { address } = await start(t, engine, 'chat.mjs');
  const other = await connect(t, `ws://${address}/lobby`, { protocols: PROTOCOLS });
  const page = await visit(t, ORIGIN);
  const seen = page.evaluate(
    ([url, protocols]) =>
      new Promise((resolve) => {
        const ws = new WebSocket(url, protocols);
        const messages = [];
        ws.onopen = () => ws.send('from Chromium');
        ws.onmessage = ({ data }) => messages.push(data) === 2 && ws.close(4000, 'done');
        ws.onclose = ({ code, reason, wasClean }) => resolve({ messages, code, reason, wasClean });
      }),
    [`ws://${address}/lobby`, PROTOCOLS],
  );
  assert.equal(await other.next(), 'welcome to /lobby');
  assert.equal(await other.next(), 'from Chromium');
  other.send('hello, Chromium');
  const reason = engine.isGuarded ? '' : 'done';
  assert.deepEqual(await seen, { messages: ['welcome to /lobby', 'hello, Chromium'], code: 4000, reason, wasClean: true });
});

for (const transports of [['websocket'], ['polling', 'websocket']]) {
  onEach(`Chromium: the Socket.IO chat, ${transports.join(' then ')}`, async (t, engine) => {
    const { address } = await start(t, engine, 'socketio.mjs');
    const page = await visit(t, ORIGIN);
    await page.addScriptTag({ path: fileURLToPath(new URL('../node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url)) });
    const seen = await page.evaluate(async ([url, transports]) => {
      const join = async (name) => {
        const socket = io(url, { transports, auth: { name }, forceNew: true });
        await new Promise((resolve) => socket.on('connect', resolve));
        const { engine } = socket.io;
        if (engine.transport.name !== 'websocket') await new Promise((resolve) => engine.on('upgrade', resolve));
        await socket.emitWithAck('join', 'lobby');
        return socket;
      };
      const [alice, bob] = [await join('alice'), await join('bob')];
      const heard = new Promise((resolve) => bob.on('said', resolve));
      await alice.emitWithAck('say', 'lobby', 'hello');
      return { heard: await heard, transport: bob.io.engine.transport.name };
    }, [`http://${address}`, transports]);
    assert.deepEqual(seen, { heard: { name: 'alice', text: 'hello' }, transport: 'websocket' });
  });
}

onGuarded('Chromium: a foreign page reaches neither', async (t, engine) => {
  const chat = await start(t, engine, 'chat.mjs');
  const socketio = await start(t, engine, 'socketio.mjs');
  const page = await visit(t, 'http://evil.test');
  for (const url of [`ws://${chat.address}/lobby`, `ws://${socketio.address}/socket.io/?EIO=4&transport=websocket`]) {
    const seen = await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const ws = new WebSocket(url, ['bearer', 'change-me']);
          ws.onopen = () => resolve('open');
          ws.onclose = ({ code }) => resolve(code);
        }),
      url,
    );
    assert.equal(seen, 1006);
  }
});

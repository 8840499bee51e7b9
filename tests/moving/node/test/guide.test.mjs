// The code of docs/moving/node.md runs as it stands there, but for its ports.

import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { connect, refused } from '../lib/client.mjs';
import { ORIGIN, onGuarded, start } from '../lib/engines.mjs';

const guide = await readFile(new URL('../../../../docs/moving/node.md', import.meta.url), 'utf8');
const blocks = [...guide.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
const [before, after, policy, report, socketio, uws] = blocks;
const SAYS_PORT = 'wss.on("listening", () => console.log(`127.0.0.1:${wss.address().port}`));';

/** Runs code of the guide beside the packages of this test. */
async function run(t, engine, name, code) {
  const file = new URL(`../${name}-${process.pid}.tmp.mjs`, import.meta.url);
  await writeFile(file, code.replace('port: 8080', 'port: 0').replace('127.0.0.1:9001', '127.0.0.1:0'));
  t.after(() => rm(file));
  return start(t, { ...engine, preload: [] }, name, { file });
}

const own = { name: 'wsguard/ws', isGuarded: true, preload: [] };

test('the guide has the code that is tested here, and the move changes the import and adds a policy', () => {
  assert.equal(blocks.length, 6);
  const lines = new Set(after.split('\n'));
  const gone = before.split('\n').filter((line) => !lines.has(line));
  assert.deepEqual(gone, ['import { WebSocket, WebSocketServer } from "ws";', 'const wss = new WebSocketServer({ port: 8080 });']);
});

test('the chat before it moves', async (t) => {
  const { address } = await run(t, own, 'before', `${before}${SAYS_PORT}`);
  await talk(t, address);
});

onGuarded('the chat after it moved', async (t, engine) => {
  const { address } = await run(t, engine, 'after', `${after}${SAYS_PORT}`);
  await talk(t, address);
  assert.equal(await refused(`ws://${address}/`, { origin: 'http://evil.example' }), 403);
  assert.equal(await refused(`ws://${address}/`, { origin: undefined }), 403);
});

onGuarded('the chat with a token', async (t, engine) => {
  const code = after.replace(/ {2}policy: \{.*?\n {2}\},\n/s, policy);
  const { address } = await run(t, engine, 'token', `${code}${SAYS_PORT}wss.on("connection", (ws) => ws.send(ws.wsguard.user));`);
  assert.equal(await refused(`ws://${address}/`), 401);
  const ws = await connect(t, `ws://${address}/`, { protocols: ['bearer', 'change-me'] });
  await ws.next();
  assert.equal(await ws.next(), 'alice');
});

onGuarded('report mode', async (t, engine) => {
  const app = await run(t, engine, 'report', `${report}${SAYS_PORT}wss.on("connection", (ws) => ws.send("in"));`);
  const ws = await connect(t, `ws://${app.address}/`, { origin: 'http://evil.example' });
  assert.equal(await ws.next(), 'in');
  for (const code of ['origin_denied', 'auth_failed']) await app.complains(new RegExp(code));
});

onGuarded('Socket.IO', async (t, engine) => {
  const frame = [
    'import { createServer } from "node:http";',
    'import { Server } from "socket.io";',
    'const httpServer = createServer();',
    socketio,
    'io.on("connection", (socket) => socket.emit("hello"));',
    'httpServer.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${httpServer.address().port}`));',
  ];
  const { address } = await run(t, engine, 'socketio', frame.join('\n'));
  const url = `ws://${address}/socket.io/?EIO=4&transport=websocket`;
  assert.equal(await refused(url, { origin: 'http://evil.example' }), 400);
  const ws = await connect(t, url, { origin: 'https://app.example.com' });
  assert.match(await ws.next(), /^0\{"sid":/);
});

onGuarded('uWebSockets.js, on the server of wsguard', async (t, engine) => {
  const code = uws.replace('await server.listen()', 'console.log(await server.listen())');
  const { address } = await run(t, engine, 'uws', code);
  const options = { origin: 'https://app.example.com' };
  const [a, b] = [await connect(t, `ws://${address}/`, options), await connect(t, `ws://${address}/`, options)];
  a.send('news');
  for (const ws of [a, b]) assert.equal(await ws.next(), 'news');
  assert.equal(await refused(`ws://${address}/`, { origin: ORIGIN }), 403);
});

async function talk(t, address) {
  const [a, b] = [await connect(t, `ws://${address}/`), await connect(t, `ws://${address}/`)];
  for (const ws of [a, b]) assert.match(await ws.next(), /^welcome, .*127\.0\.0\.1$/);
  a.send('hello');
  for (const ws of [a, b]) assert.equal(await ws.next(), 'hello');
}

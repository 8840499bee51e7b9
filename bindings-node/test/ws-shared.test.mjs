// `wsguard/ws` on a socket that is also Node's: what others who have it see of it, and what they may do with it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { WebSocketServer } from '../ws/index.mjs';
import { duplexPair } from './ws-duplex.mjs';
import { KEY, POLICY, ended, knock, pair, share } from './ws-harness.mjs';

test('two servers of different paths on one HTTP server: no peer ends the process', async (t) => {
  const { wss, server } = await share(t, { path: '/a' });
  const other = new WebSocketServer({ server, path: '/b', policy: POLICY });
  const third = new WebSocketServer({ noServer: true, path: '/a', policy: POLICY });
  t.after(() => Promise.all([ended(other), ended(third)]));
  const { client, ws } = await pair(t, wss, { path: '/a' });
  const { port } = server.address();
  for (const path of ['/b', '/c']) assert.equal((await knock(port, KEY, { path })).status, 400, path);
  ws.send('still there');
  assert.equal(String((await once(client, 'message'))[0]), 'still there');
  // Where both would have it, the application is wrong, as with ws.
  server.once('upgrade', (...given) => assert.throws(() => third.handleUpgrade(...given), /called more than once with the same socket/));
  await pair(t, wss, { path: '/a' });
});

test('whoever looks after sockets that nobody has answered sees that this one is', async (t) => {
  const { wss, server } = await share(t, { verifyClient: (_, answer) => setTimeout(answer, 50, true) });
  const before = [];
  // As Socket.IO does for paths that are not its own.
  server.on('upgrade', (_, socket) => before.push(socket.bytesWritten));
  const { client, ws } = await pair(t, wss);
  assert.deepEqual(before, [0]);
  const { _socket: socket } = ws;
  assert.ok(socket.writable && socket.bytesWritten >= 129);
  if (socket.bytesWritten <= 0) socket.end();
  ws.send('still there');
  assert.equal(String((await once(client, 'message'))[0]), 'still there');
});

test('a timeout of the socket does not take a peer that speaks for idle', async (t) => {
  const { wss } = await share(t);
  wss.on('connection', (ws) => {
    ws._socket.setTimeout(20, () => ws.terminate());
    ws.on('message', (data) => ws.send(data));
  });
  const { client } = await pair(t, wss);
  for (let count = 0; count < 10; count++) {
    client.send('x');
    await once(client, 'message');
    await sleep(5);
  }
  assert.equal(client.readyState, client.OPEN);
});

test('whoever hears of the end finds the socket destroyed', async (t) => {
  const { wss } = await share(t);
  const { client, ws } = await pair(t, wss);
  const told = new Promise((resolve) => ws.on('close', () => resolve([ws._socket.destroyed, ws._socket.remoteAddress])));
  client.close();
  assert.deepEqual(await told, [true, '127.0.0.1']);
});

test('a Duplex that is paused is paused as the connection, and resumed by either', async (t) => {
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => ended(wss));
  const [ours, theirs] = duplexPair();
  const request = Object.assign(new http.IncomingMessage(ours), {
    method: 'GET',
    url: '/',
    headers: { host: 'a', connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-key': KEY['Sec-WebSocket-Key'], 'sec-websocket-version': '13' },
  });
  Object.defineProperty(request, 'rawHeaders', { value: undefined });
  theirs.resume();
  const ws = await new Promise((resolve) => wss.handleUpgrade(request, ours, Buffer.alloc(0), resolve));
  const heard = [];
  ws.on('message', (data) => heard.push(String(data)));
  const say = (text) => theirs.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]));
  const next = () => new Promise((resolve) => ws.once('message', resolve));
  for (const [pauses, resumes] of [[ours, ws], [ws, ours], [ours, ours]]) {
    pauses.pause();
    assert.deepEqual([ws.isPaused, ours.isPaused()], [true, true]);
    say('kept');
    await sleep(20);
    assert.deepEqual(heard, []);
    const told = next();
    resumes.resume();
    await told;
    assert.deepEqual([heard.splice(0), ws.isPaused, ours.isPaused()], [['kept'], false, false]);
  }
});

test('what a peer says before handleUpgrade is called is told, however much, and whoever resumes the socket', async (t) => {
  const frame = (size, fill) => {
    const head = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32BE(size, 6);
    return Buffer.concat([head, Buffer.alloc(size, fill)]);
  };
  for (const resumes of ['never', 'before', 'behind']) {
    const server = http.createServer();
    const wss = new WebSocketServer({ noServer: true, policy: { ...POLICY, maxMessageBytes: 1_000_000 } });
    t.after(() => {
      ended(wss);
      server.close();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const told = new Promise((resolve) => {
      server.on('upgrade', async (request, socket, head) => {
        await sleep(50);
        if (resumes === 'before') socket.pause().resume();
        wss.handleUpgrade(request, socket, head, (ws) => {
          const heard = [];
          ws.on('message', (data) => heard.push(`${data.length} of ${data[0]}`));
          ws.on('close', (code) => resolve([...heard, code]));
        });
        if (resumes === 'behind') socket.pause().resume();
      });
    });
    const peer = net.connect(server.address().port, '127.0.0.1');
    t.after(() => peer.destroy());
    peer.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n');
    for (const fill of [1, 2, 3]) peer.write(frame(200_000, fill));
    await sleep(80);
    peer.write(Buffer.concat([frame(70_000, 4), Buffer.from([0x88, 0x82, 0, 0, 0, 0, 3, 232])]));
    assert.deepEqual(await told, ['200000 of 1', '200000 of 2', '200000 of 3', '70000 of 4', 1000], resumes);
  }
});

test('a worker of cluster that is disconnected listens no more, and ends', { skip: process.platform !== 'linux' }, async () => {
  const program = fileURLToPath(new URL('fixtures/ws-cluster.cjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program], { timeout: 20_000 });
  assert.equal(stdout, 'disconnected');
});

// What ws's README and doc/ws.md show a server to do.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, refused } from '../lib/client.mjs';
import { ORIGIN, onEach } from '../lib/engines.mjs';
import { WAYS } from '../lib/ways.mjs';

const policy = { origins: [ORIGIN], auth: 'none', rateLimit: null };

onEach('several servers share one HTTP server', async (t, engine) => {
  const { WebSocketServer } = engine.load();
  const servers = { '/foo': new WebSocketServer({ noServer: true, policy }), '/bar': new WebSocketServer({ noServer: true, policy }) };
  for (const [path, wss] of Object.entries(servers)) wss.on('connection', (ws) => ws.send(`this is ${path}`));
  const server = createServer();
  server.on('upgrade', (request, socket, head) => {
    const { pathname } = new URL(request.url, 'wss://base.url');
    const wss = servers[pathname];
    if (wss === undefined) return socket.destroy();
    return wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = `127.0.0.1:${server.address().port}`;
  for (const path of Object.keys(servers)) {
    const ws = await connect(t, `ws://${address}${path}?query=1`);
    assert.equal(await ws.next(), `this is ${path}`);
    assert.equal(servers[path].clients.size, 1);
  }
  await assert.rejects(refused(`ws://${address}/neither`).then((status) => assert.equal(status, 'dropped')));
});

for (const way of ['port', 'server', 'https']) {
  onEach(`${way}: createWebSocketStream pipes both ways, and ends`, async (t, engine) => {
    const { WebSocketServer, createWebSocketStream } = engine.load();
    const { wss, dial: { url, ...options } } = await WAYS[way](t, WebSocketServer, { policy });
    const ended = once(wss, 'connection').then(([ours]) => {
      const stream = createWebSocketStream(ours);
      stream.pipe(stream);
      return once(stream, 'close');
    });
    const ws = await connect(t, url, options);
    for (let n = 0; n < 200; n++) ws.send(Buffer.alloc(10_000, n));
    for (let n = 0; n < 200; n++) assert.ok((await ws.next()).equals(Buffer.alloc(10_000, n)));
    ws.close(1000);
    await ended;
    assert.equal((await ws.ended).code, 1000);
  });

  onEach(`${way}: headers, a class of the application, fragments, listeners of the browser's kind, the IP address`, async (t, engine) => {
    const { WebSocket, WebSocketServer } = engine.load();
    class Mine extends WebSocket {
      greet() {
        this.send('one ', { fin: false });
        this.send('message', { fin: true });
      }
    }
    const { wss, dial: { url, ...options } } = await WAYS[way](t, WebSocketServer, { policy, WebSocket: Mine, clientTracking: false });
    wss.on('headers', (headers) => headers.push('Set-Cookie: a=1', 'X-Mine: yes'));
    const heard = once(wss, 'connection').then(async ([ours, request]) => {
      assert.ok(ours instanceof Mine);
      assert.equal(request.socket.remoteAddress, '127.0.0.1');
      ours.binaryType = 'arraybuffer';
      ours.greet();
      const { type, data, target } = await new Promise((resolve) => ours.addEventListener('message', resolve, { once: true }));
      assert.deepEqual([type, data.constructor.name, target], ['message', 'ArrayBuffer', ours]);
      return new Promise((resolve) => (ours.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean })));
    });
    assert.equal(wss.clients, undefined);
    const told = new Promise((resolve) => (options.finishRequest = (request) => request.on('upgrade', resolve).end()));
    const ws = await connect(t, url, options);
    const { headers } = await told;
    assert.deepEqual([headers['set-cookie'], headers['x-mine']], [['a=1'], 'yes']);
    assert.equal(await ws.next(), 'one message');
    ws.send(Buffer.from('bytes'));
    ws.close(3000, 'enough');
    assert.deepEqual(await heard, { code: 3000, reason: 'enough', wasClean: true });
  });
}

onEach('close() lets in nobody more, and says when the last has left', async (t, engine) => {
  const { wss, dial: { url, ...options } } = await WAYS.port(t, engine.load().WebSocketServer, { policy });
  const served = once(wss, 'connection');
  const ws = await connect(t, url, options);
  const [ours] = await served;
  let isClosed = false;
  const closed = new Promise((resolve, fail) => wss.close((error) => (error ? fail(error) : resolve((isClosed = true)))));
  await assert.rejects(connect(t, url, options));
  assert.equal(isClosed, false);
  ours.send('still here');
  assert.equal(await ws.next(), 'still here');
  ours.close(1001);
  assert.equal((await ws.ended).code, 1001);
  await closed;
  await assert.rejects(new Promise((resolve, fail) => wss.close((error) => (error ? fail(error) : resolve()))), /The server is not running/);
});

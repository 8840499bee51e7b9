// `wsguard/ws` and AsyncLocalStorage: each connection has a context of its own.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import http from 'node:http';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from '../ws/index.mjs';
import { POLICY, WebSocketClient, ended, pair, serve } from './ws-harness.mjs';

test('what one connection enters no other one sees', async (t) => {
  const als = new AsyncLocalStorage();
  const wss = await serve(t);
  const seen = [];
  wss.on('connection', (ws, request) => {
    assert.equal(als.getStore(), undefined);
    ws.on('message', () => als.run(request.url, () => setImmediate(() => seen.push(als.getStore()))));
    ws.on('message', () => assert.equal(als.getStore(), undefined));
  });
  const clients = [await pair(t, wss, { path: '/a' }), await pair(t, wss, { path: '/b' })];
  const answered = Promise.all(clients.map(({ client }) => once(client, 'pong')));
  for (const { client } of clients) {
    client.send('x');
    client.ping();
  }
  await answered;
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  assert.deepEqual(seen.sort(), ['/a', '/b']);
});

test('the callback of handleUpgrade has the context of its call; a server that starts with it has not', async (t) => {
  const als = new AsyncLocalStorage();
  const server = http.createServer();
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => (ended(wss), server.close()));
  const stores = [];
  server.on('upgrade', (request, socket, head) => {
    als.run(request.url, () => {
      wss.handleUpgrade(request, socket, head, (ws) => {
        stores.push(als.getStore());
        ws.on('message', () => ws.send(String(als.getStore())));
      });
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  for (const path of ['/a', '/b']) {
    const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}${path}`);
    await once(client, 'open');
    client.send('who');
    assert.equal((await once(client, 'message'))[0].toString(), 'undefined');
    client.terminate();
  }
  assert.deepEqual(stores, ['/a', '/b']);
});

test('a callback of send has the context of its call', async (t) => {
  const als = new AsyncLocalStorage();
  const { ws } = await pair(t, await serve(t));
  const says = [(cb) => ws.send('a', cb), (cb) => ws.ping('b', cb), (cb) => ws.send(new Blob(['c']), cb), (cb) => ws.send('d', cb)];
  const seen = says.map((say, at) => new Promise((resolve) => als.run(at, say, () => resolve(als.getStore()))));
  assert.deepEqual(await Promise.all(seen), [0, 1, 2, 3]);
  ws.terminate();
  const late = new Promise((resolve) => als.run('late', () => ws.send('e', () => resolve(als.getStore()))));
  assert.equal(await late, 'late');
});

test('what verifyClient enters for one peer its own connection sees, and no other peer', async (t) => {
  const als = new AsyncLocalStorage();
  const server = http.createServer();
  const options = { policy: POLICY, verifyClient: ({ req }) => (als.enterWith(req.url), true) };
  const attached = new WebSocketServer({ server, ...options });
  server.listen(0, '127.0.0.1');
  const native = new WebSocketServer({ port: 0, host: '127.0.0.1', ...options });
  t.after(() => (ended(attached), ended(native), server.close()));
  await Promise.all([once(server, 'listening'), once(native, 'listening')]);
  for (const wss of [attached, native]) {
    const seen = [];
    wss.on('connection', (ws, { url }) => {
      seen.push([url, als.getStore()]);
      ws.on('message', () => ws.send(String(als.getStore())));
    });
    const paths = Array.from({ length: 10 }, (_, at) => `/${at}`);
    await Promise.all(paths.map(async (path) => {
      const client = new WebSocketClient(`ws://127.0.0.1:${wss.address().port}${path}`);
      await once(client, 'open');
      client.send('who');
      assert.equal((await once(client, 'message'))[0].toString(), 'undefined');
      client.terminate();
    }));
    assert.equal(seen.length, paths.length);
    for (const [url, store] of seen) assert.equal(store, url);
  }
});

test('what is asked of a handshake has the context of handleUpgrade; the connection that of the answer', async (t) => {
  const als = new AsyncLocalStorage();
  const server = http.createServer();
  const seen = {};
  class Connection extends WebSocket {
    constructor(...given) {
      super(...given);
      seen.made = als.getStore();
    }
  }
  const wss = new WebSocketServer({
    noServer: true,
    policy: POLICY,
    WebSocket: Connection,
    verifyClient(info, answer) {
      seen.verify = als.getStore();
      als.run('answered', () => setImmediate(answer, true));
    },
  });
  t.after(() => (ended(wss), server.close()));
  const shouldHandle = wss.shouldHandle;
  wss.shouldHandle = (request) => {
    seen.should = als.getStore();
    return shouldHandle.call(wss, request);
  };
  wss.on('headers', () => (seen.headers = als.getStore()));
  server.on('upgrade', (request, socket, head) => {
    als.run('asked', () => wss.handleUpgrade(request, socket, head, () => (seen.connection = als.getStore())));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}`);
  await once(client, 'open');
  client.terminate();
  await once(client, 'close');
  assert.deepEqual(seen, { should: 'asked', verify: 'asked', headers: 'answered', made: 'answered', connection: 'answered' });
});

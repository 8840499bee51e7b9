// `wsguard/ws`, the server: options, where it listens, handshakes, its end.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { duplexPair } from './ws-duplex.mjs';
import { test } from 'node:test';
import WebSocket, { Server, WebSocketServer, guard } from '../ws/index.mjs';
import { KEY, POLICY, WebSocketClient, ended, knock, pair, serve, share, urlOf } from './ws-harness.mjs';

const WAYS = /^TypeError: One and only one of the "port", "server", or "noServer" options must be specified$/;

test('one of port, server and noServer', () => {
  const server = http.createServer();
  assert.throws(() => new WebSocketServer(), WAYS);
  for (const options of [{}, { port: 0, noServer: true, server }, { port: 0, noServer: true }, { port: 0, server }, { noServer: true, server }]) {
    assert.throws(() => new WebSocketServer(options), WAYS);
  }
});

test('without a policy there is no server', () => {
  assert.throws(() => new WebSocketServer({ noServer: true }), (error) => {
    assert.equal(error.code, 'missing_option');
    assert.match(error.message, /`origins`.*`auth`.*guard\(policy\).*WSGUARD_POLICY/);
    return true;
  });
  assert.throws(() => new WebSocketServer({ noServer: true, policy: { auth: 'none' } }), /origins/);
  assert.throws(() => new WebSocketServer({ noServer: true, policy: { origins: ['https://a.example'] } }), /auth/);
});

test('what ws exports', () => {
  assert.equal(Server, WebSocketServer);
  assert.deepEqual([WebSocket.Server, WebSocket.WebSocket, WebSocket.WebSocketServer], [Server, WebSocket, WebSocketServer]);
  assert.throws(() => new WebSocket('ws://localhost'), /globalThis\.WebSocket .* ws/);
});

test('options are there as they were given', async (t) => {
  const wss = await serve(t);
  assert.equal(wss.options.port, 0);
});

test('a class of the application', async (t) => {
  class Mine extends WebSocket {
    get foo() {
      return 'foo';
    }
  }
  const wss = await serve(t, { WebSocket: Mine });
  const { ws } = await pair(t, wss);
  assert.ok(ws instanceof Mine && ws instanceof WebSocket);
  assert.equal(ws.foo, 'foo');
});

test('autoPong: false leaves pings to the application', async (t) => {
  const wss = await serve(t, { autoPong: false });
  const { client, ws } = await pair(t, wss);
  const pongs = [];
  client.on('pong', (data) => pongs.push(data.toString()));
  const pinged = once(ws, 'ping');
  client.ping('a');
  await pinged;
  ws.pong('of ours');
  await once(client, 'pong');
  assert.deepEqual(pongs, ['of ours']);
});

test('an address in use is an error', async (t) => {
  const first = await serve(t);
  const second = new WebSocketServer({ port: first.address().port, host: '127.0.0.1', policy: POLICY });
  const [error] = await once(second, 'error');
  assert.equal(error.code, 'EADDRINUSE');
  assert.equal(error.syscall, 'listen');
});

test('without a host: what is plain text listens for this machine alone', async (t) => {
  const wss = await serve(t, { host: undefined });
  assert.equal(wss.address().address, '127.0.0.1');
  const open = await serve(t, { host: undefined }, { dangerouslyAllowPlaintext: true });
  assert.ok(['::', '0.0.0.0'].includes(open.address().address));
  assert.deepEqual(wss.address(), wss._server.address());
  await pair(t, open);
});

test('a public host needs TLS, a proxy, or to be said', () => {
  assert.throws(() => new WebSocketServer({ port: 0, host: '0.0.0.0', policy: POLICY }), /trustedProxies|tls/);
});

test('the server of an application', async (t) => {
  const { wss, server } = await share(t);
  assert.deepEqual(wss.address(), server.address());
  const { request } = await pair(t, wss, { path: '/foo?bar=bar' });
  assert.equal(request.url, '/foo?bar=bar');
  assert.equal(request.socket.remoteAddress, '127.0.0.1');
  assert.equal(request.socket.localPort, server.address().port);
});

test('its errors and its listening are those of the server', async (t) => {
  const { server: first } = await share(t);
  const server = http.createServer();
  const wss = new WebSocketServer({ server, policy: POLICY });
  server.listen(first.address().port, '127.0.0.1');
  const [error] = await once(wss, 'error');
  assert.equal(error.code, 'EADDRINUSE');
});

test('a Unix socket', { skip: process.platform === 'win32' }, async (t) => {
  const at = path.join(os.tmpdir(), `wsguard-ws-${crypto.randomBytes(4).toString('hex')}.sock`);
  const { wss } = await share(t, {}, { listen: [at] });
  const client = new WebSocketClient(`ws+unix:${at}:/foo?bar=bar`);
  const [ws, request] = await once(wss, 'connection');
  assert.equal(request.url, '/foo?bar=bar');
  ws.send('over a file');
  const [message] = await once(client, 'message');
  assert.equal(message.toString(), 'over a file');
  client.terminate();
});

test('a proxy on a Unix socket is believed', { skip: process.platform === 'win32' }, async (t) => {
  const at = path.join(os.tmpdir(), `wsguard-ws-${crypto.randomBytes(4).toString('hex')}.sock`);
  const { wss } = await share(t, {}, { listen: [at], policy: { trustedProxies: ['unix'] } });
  wss.on('connection', (ws) => ws.send(String(ws.wsguard.ip)));
  const client = new WebSocketClient(`ws+unix:${at}:/`, { headers: { 'X-Forwarded-For': '203.0.113.9' } });
  const [message] = await once(client, 'message');
  assert.equal(message.toString(), '203.0.113.9');
  client.terminate();
});

test('what is no upgrade gets 426', async (t) => {
  const wss = await serve(t);
  const { status, body } = await knock(wss.address().port, { Connection: 'close', Upgrade: '' });
  assert.deepEqual([status, body], [426, 'Upgrade Required']);
});

test('address() of a server without one', async (t) => {
  assert.throws(() => new WebSocketServer({ noServer: true, policy: POLICY }).address(), /^Error: The server is operating in "noServer" mode$/);
  const wss = await serve(t);
  await ended(wss);
  assert.equal(wss.address(), null);
});

test('close() may be called often, and tells when it was too late', async (t) => {
  const wss = await serve(t);
  const closed = once(wss, 'close');
  wss.close();
  wss.close();
  await closed;
  assert.equal(wss._state, 2);
  const error = await new Promise((resolve) => wss.close(resolve));
  assert.equal(error.message, 'The server is not running');
  const again = once(wss, 'close');
  wss.close();
  await again;
});

test('close() leaves the server of the application alone', async (t) => {
  const server = http.createServer();
  const counts = () => ['listening', 'upgrade', 'error'].map((name) => server.listenerCount(name));
  const before = counts();
  const wss = new WebSocketServer({ server, policy: POLICY });
  assert.deepEqual(counts(), before.map((count) => count + 1));
  server.listen(0, '127.0.0.1');
  await once(wss, 'listening');
  t.after(() => server.close());
  await ended(wss);
  assert.deepEqual(counts(), before);
  assert.ok(server.listening);
  for (const options of [{ noServer: true }, { noServer: true, clientTracking: false }]) {
    await ended(new WebSocketServer({ ...options, policy: POLICY }));
  }
});

test('close() of a port frees it, and waits for the connections, which stay', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const { port } = wss.address();
  let isClosed = false;
  const order = [];
  wss._server.on('close', () => order.push('port'));
  wss.on('close', () => order.push('server'));
  const closed = once(wss, 'close').then(() => (isClosed = true));
  wss.close();
  const echoed = once(client, 'message');
  ws.send('still here');
  assert.equal((await echoed)[0].toString(), 'still here');
  assert.equal(isClosed, false);
  const other = net.createServer();
  other.listen(port, '127.0.0.1');
  await once(other, 'listening');
  other.close();
  client.close();
  await closed;
  assert.deepEqual(order, ['port', 'server']);
});

test('a server takes the port of one that was closed in the same turn', async (t) => {
  let wss = await serve(t);
  const { port } = wss.address();
  // What a reload of the module does. Often: the core's thread might happen to be fast.
  for (let count = 0; count < 20; count += 1) {
    wss.close();
    wss = new WebSocketServer({ port, host: '127.0.0.1', policy: POLICY });
    const last = wss;
    t.after(() => ended(last));
    await once(wss, 'listening');
  }
});

test('close() waits for a connection whose handshake is accepted', async (t) => {
  const { wss, server } = await share(t, {
    // In a turn of its own: no event of the core comes before the end of it.
    verifyClient: (_info, decide) => void setImmediate(() => {
      decide(true);
      wss.close();
    }),
  });
  const order = [];
  wss.on('connection', (ws) => {
    order.push('connection');
    ws.close();
  });
  wss.on('close', () => order.push('close'));
  const closed = once(wss, 'close');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}`);
  client.on('error', () => {});
  await closed;
  await once(client, 'close');
  assert.deepEqual(order, ['connection', 'close']);
});

test('close() waits for no connection whose peer has left', async (t) => {
  const { wss, server } = await share(t);
  wss.on('connection', (ws) => ws.terminate());
  const closed = once(wss, 'close');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}`);
  client.on('error', () => {});
  wss.on('headers', () => {
    client.terminate();
    wss.close();
  });
  await closed;
});

test('clients', async (t) => {
  const wss = await serve(t);
  assert.equal(wss.clients.size, 0);
  for (const end of ['close', 'terminate']) {
    const { client, ws } = await pair(t, wss);
    assert.deepEqual([...wss.clients], [ws]);
    const closed = new Promise((resolve) => ws.on('close', () => resolve(wss.clients.size)));
    client[end]();
    assert.equal(await closed, 0);
  }
  const untracked = await serve(t, { clientTracking: false });
  assert.equal(untracked.clients, undefined);
  const { client, ws } = await pair(t, untracked);
  client.close();
  await once(ws, 'close');
});

test('shouldHandle', async (t) => {
  const wss = new WebSocketServer({ noServer: true, path: '/foo', policy: POLICY });
  assert.deepEqual(['/foo', '/foo?bar=baz', '/bar'].map((url) => wss.shouldHandle({ url })), [true, true, false]);
  const served = await serve(t, { path: '/ws' });
  assert.equal((await knock(served.address().port, KEY)).status, 400);
  await pair(t, served, { path: '/ws?x' });
});

test('handleUpgrade, and twice with one socket', async (t) => {
  const server = http.createServer();
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => (ended(wss), server.close()));
  server.on('upgrade', (request, socket, head) => {
    wss.handleUpgrade(request, socket, head, (ws) => {
      ws.send('hello');
      ws.close();
    });
    assert.throws(() => wss.handleUpgrade(request, socket, head, () => {}), /^Error: server\.handleUpgrade\(\) was called more than once with the same socket, possibly due to a misconfiguration$/);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}`);
  const [message, isBinary] = await once(client, 'message');
  assert.deepEqual([message.toString(), isBinary], ['hello', false]);
  const [code] = await once(client, 'close');
  assert.equal(code, 1005);
});

test('an answer to this request may have been begun, one to another may not', async (t) => {
  const server = http.createServer(() => {}); // it never answers
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => (ended(wss), server.close(), server.closeAllConnections()));
  server.on('upgrade', (request, socket, head) => {
    if (request.url === '/fastify') new http.ServerResponse(request).assignSocket(socket);
    wss.handleUpgrade(request, socket, head, (ws) => ws.send('hello'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}/fastify`);
  assert.equal((await once(client, 'message'))[0].toString(), 'hello');
  client.terminate();
  const socket = net.connect(server.address().port, '127.0.0.1');
  const head = Object.entries({ Host: 'a', Connection: 'Upgrade', Upgrade: 'websocket', ...KEY }).map((pair) => pair.join(': '));
  socket.write(`GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`);
  let read = '';
  socket.on('data', (data) => (read += data));
  await once(socket, 'close');
  assert.equal(read, '');
});

test('any Duplex', async (t) => {
  const server = http.createServer();
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => (ended(wss), server.close()));
  server.on('upgrade', (request, socket, head) => {
    const [near, far] = duplexPair();
    socket.pipe(near).pipe(socket);
    wss.handleUpgrade(request, far, head, (ws) => ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}`, { perMessageDeflate: false });
  await once(client, 'open');
  for (const payload of ['hello', Buffer.alloc(60_000, 7), 'x'.repeat(40_000)]) {
    const answered = once(client, 'message');
    client.send(payload);
    const [message, isBinary] = await answered;
    assert.equal(isBinary, typeof payload !== 'string');
    assert.ok(message.equals(Buffer.from(payload)));
  }
  client.close(4001, 'bye');
  const [code] = await once(client, 'close');
  assert.equal(code, 4001);
});

test('a request made by hand, of headers alone', async (t) => {
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => ended(wss));
  const headers = { upgrade: 'websocket', connection: 'upgrade', 'sec-websocket-version': 13, 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
  const hand = (more) => {
    const [near, far] = duplexPair();
    const opened = new Promise((resolve) => wss.handleUpgrade({ method: 'GET', url: '/', httpVersion: '1.1', headers: { ...headers, ...more } }, far, Buffer.alloc(0), resolve));
    return { near, opened };
  };
  const { near, opened } = hand({ cookie: ['a=1', 'b=2'] });
  const ws = await opened;
  assert.match(String((await once(near, 'data'))[0]), /^HTTP\/1\.1 101 /);
  ws.terminate();
  assert.throws(() => {
    const [, far] = duplexPair();
    wss.handleUpgrade({ method: 'GET', url: '/', headers: { ...headers, 'x-a': 'b\r\nc: d' } }, far, Buffer.alloc(0), () => {});
  }, { code: 'ERR_INVALID_CHAR' });
});

for (const where of ['port', 'server']) test(`handshakes that are none, in the words of ws (${where})`, async (t) => {
  const wss = where === 'port' ? await serve(t) : (await share(t)).wss;
  const refused = async (headers, how) => {
    const { status, body } = await knock(wss.address().port, headers, how);
    return [status, body];
  };
  assert.deepEqual(await refused({}, { method: 'POST' }), [405, 'Invalid HTTP method']);
  assert.deepEqual(await refused({ Upgrade: 'foo' }), [400, 'Invalid Upgrade header']);
  const noKey = [400, 'Missing or invalid Sec-WebSocket-Key header'];
  assert.deepEqual(await refused({}), noKey);
  assert.deepEqual(await refused({ 'Sec-WebSocket-Key': 'P5l8BJcZwRc=' }), noKey);
  const noVersion = [400, 'Missing or invalid Sec-WebSocket-Version header'];
  const { 'Sec-WebSocket-Version': _, ...key } = KEY;
  assert.deepEqual(await refused(key), noVersion);
  assert.deepEqual(await refused({ ...key, 'Sec-WebSocket-Version': 12 }), noVersion);
  assert.deepEqual(await refused({ ...KEY, 'Sec-WebSocket-Protocol': 'foo;bar' }), [400, 'Invalid Sec-WebSocket-Protocol header']);
});

test('wsClientError', async (t) => {
  const { wss, server } = await share(t);
  wss.on('wsClientError', (error, socket, request) => {
    assert.equal(error.message, 'Invalid HTTP method');
    assert.ok(request instanceof http.IncomingMessage);
    assert.equal(request.method, 'POST');
    socket.end('HTTP/1.1 418 Mine\r\n\r\n');
  });
  assert.equal((await knock(server.address().port, {}, { method: 'POST' })).status, 418);
});

test('a server that is closing answers 503', async (t) => {
  const server = http.createServer();
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  server.on('upgrade', (request, socket, head) => {
    wss.close();
    wss.handleUpgrade(request, socket, head, () => assert.fail('it was closed'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  assert.equal((await knock(server.address().port, KEY)).status, 503);
});

test('no extension is negotiated unless the policy says so', async (t) => {
  const wss = await serve(t, { perMessageDeflate: true });
  const { ws, client, request } = await pair(t, wss, { perMessageDeflate: true });
  assert.match(request.headers['sec-websocket-extensions'], /permessage-deflate/);
  assert.deepEqual([ws.extensions, client.extensions], ['', '']);
});

for (const where of ['port', 'server']) {
  const start = async (t, options) => (where === 'port' ? serve(t, options) : (await share(t, options)).wss);

  test(`verifyClient (${where})`, async (t) => {
    const knocked = async (verifyClient) => knock((await start(t, { verifyClient })).address().port, KEY);
    assert.equal((await knocked(() => false)).status, 401);
    assert.equal((await knocked((info, callback) => process.nextTick(callback, false))).status, 401);
    assert.equal((await knock((await start(t)).address().port, { ...KEY, 'Sec-WebSocket-Version': 7 })).status, 400);
    const old = await start(t, { verifyClient: ({ origin }) => origin === 'https://old.example' });
    const headers = { ...KEY, 'Sec-WebSocket-Version': 8, 'Sec-WebSocket-Origin': 'https://other.example' };
    assert.equal((await knock(old.address().port, headers)).status, 401);
    const named = await knocked((info, callback) => process.nextTick(callback, false, 404));
    assert.deepEqual([named.status, named.body], [404, 'Not Found']);
    const told = await knocked((info, callback) => process.nextTick(callback, false, 503, '', { 'Retry-After': 120 }));
    assert.deepEqual([told.status, told.headers['retry-after']], [503, '120']);
    const infos = [];
    const wss = await start(t, { verifyClient: (info, callback) => (infos.push(info), process.nextTick(callback, true)) });
    const { request } = await pair(t, wss, { origin: 'https://example.com', headers: { foo: 'bar' } });
    assert.deepEqual([infos[0].origin, infos[0].secure, infos[0].req.headers.foo], ['https://example.com', false, 'bar']);
    assert.equal(infos[0].req, request);
  });

  test(`handleProtocols and headers (${where})`, async (t) => {
    const handleProtocols = (protocols, request) => {
      assert.ok(request instanceof http.IncomingMessage);
      assert.equal(request.url, '/');
      return [...protocols].pop();
    };
    const wss = await start(t, { handleProtocols });
    wss.on('headers', (lines, request) => {
      assert.deepEqual(lines.slice(0, 3), ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']);
      assert.ok(request instanceof http.IncomingMessage);
      lines.push('Set-Cookie: a=b', 'X-Two: 2');
    });
    const client = new WebSocketClient(urlOf(wss), ['foo', 'bar']);
    const [[response], [ws]] = await Promise.all([once(client, 'upgrade'), once(wss, 'connection'), once(client, 'open')]);
    assert.deepEqual([response.headers['set-cookie'], response.headers['x-two']], [['a=b'], '2']);
    assert.deepEqual([client.protocol, ws.protocol], ['bar', 'bar']);
    client.terminate();
    const first = await start(t);
    assert.equal((await pair(t, first, { protocols: ['foo', 'bar'] })).client.protocol, 'foo');
    const none = await start(t, { handleProtocols: () => false });
    const { client: plain, ws: without } = await pair(t, none);
    assert.deepEqual([plain.protocol, without.protocol], ['', '']);
    const number = await start(t, { handleProtocols: () => 2 });
    assert.equal((await pair(t, number, { protocols: ['1', '2'] })).client.protocol, '2');
  });

  test(`what came behind the request (${where})`, async (t) => {
    const wss = await start(t);
    const socket = net.connect(wss.address().port, '127.0.0.1');
    const head = Object.entries({ Host: 'a', Connection: 'Upgrade', Upgrade: 'websocket', ...KEY }).map((pair) => pair.join(': '));
    const frame = Buffer.from([0x81, 0x85, 0, 0, 0, 0, ...Buffer.from('Hello')]);
    socket.write(Buffer.concat([Buffer.from(`GET /?x=1 HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`), frame]));
    const [ws, request] = await once(wss, 'connection');
    const [data, isBinary] = await once(ws, 'message');
    assert.deepEqual([data.toString(), isBinary, request.url], ['Hello', false, '/?x=1']);
    assert.deepEqual(request.rawHeaders.slice(0, 4), ['Host', 'a', 'Connection', 'Upgrade']);
    assert.deepEqual(request.headersDistinct.host, ['a']);
    assert.equal(request.socket.remotePort, socket.localPort);
    assert.equal(request.socket.localPort, wss.address().port);
    socket.destroy();
    await once(ws, 'close');
    assert.deepEqual([request.socket.remotePort, request.socket.localPort, request.socket.remoteAddress], [socket.localPort ?? request.socket.remotePort, request.socket.localPort, '127.0.0.1']);
  });
}

test('who leaves while verifyClient thinks is no connection', async (t) => {
  const { wss, server } = await share(t, {
    verifyClient: ({ req: { socket } }, callback) => {
      assert.deepEqual([socket.readable, socket.writable], [true, true]);
      socket.on('end', () => {
        assert.deepEqual([socket.readable, socket.writable], [false, true]);
        callback(true);
      });
    },
  });
  wss.on('connection', () => assert.fail('it has left'));
  const lines = Object.entries({ Host: 'a', Connection: 'Upgrade', Upgrade: 'websocket', ...KEY }).map((pair) => pair.join(': '));
  const socket = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
  socket.end(`GET / HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  socket.resume();
  await once(socket, 'end');
});

test('guard() builds a policy in', async (t) => {
  const Guarded = guard({ ...POLICY, origins: ['https://a.example'], dangerouslyAllowAnyOrigin: undefined, missingOrigin: 'deny' });
  assert.throws(() => new Guarded({ noServer: true, policy: {} }), /guard\(policy\)/);
  assert.throws(() => guard(), /guard takes a policy/);
  const wss = new Guarded({ port: 0 });
  t.after(() => ended(wss));
  await once(wss, 'listening');
  assert.equal((await knock(wss.address().port, KEY)).status, 403);
  assert.equal((await knock(wss.address().port, { ...KEY, Origin: 'https://b.example' })).status, 403);
  await pair(t, wss, { origin: 'https://a.example' });
});

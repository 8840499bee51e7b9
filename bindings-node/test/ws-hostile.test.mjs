// `wsguard/ws`, where things go wrong: an application that throws in every hook, sockets that die at every moment, streams that are
// never read.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { WebSocket, WebSocketServer } from '../ws/index.mjs';
import { KEY, POLICY, WebSocketClient, knock, pair, serve, share, urlOf } from './ws-harness.mjs';

const run = promisify(execFile);

/** What is printed of errors (ten in a second), where nobody listens to those of the process: one that is not contained ends it. */
function printed(t) {
  const names = ['uncaughtException', 'unhandledRejection'];
  const listeners = names.map((name) => [name, process.listeners(name)]);
  for (const name of names) process.removeAllListeners(name);
  const { error } = console;
  const told = [];
  console.error = (...what) => told.push(what.at(-1)?.message);
  t.after(() => {
    console.error = error;
    for (const [name, all] of listeners) for (const listener of all) process.on(name, listener);
  });
  return told;
}

function fail(what) {
  throw new Error(what);
}

test('callbacks that throw later, and Blobs that cannot be sent, cost their connection', async (t) => {
  const told = printed(t);
  const wss = await serve(t, {}, { maxOutboxBytes: 100_000 });
  const tooLarge = new Uint8Array(200_000);
  const cases = [
    [(ws) => ws.send(tooLarge, () => fail('callback')), 1011, 'callback'],
    [(ws) => ws.send(new Blob([tooLarge])), 1011, /maxOutboxBytes/],
    [(ws) => [ws.send(new Blob(['a'])), ws.send(tooLarge)], 1011, /maxOutboxBytes/],
    [(ws) => [ws.close(4000), ws.send('a', () => fail('late'))], 4000, 'late'],
  ];
  for (const [act, code, error] of cases) {
    const { client, ws } = await pair(t, wss);
    act(ws);
    assert.equal((await once(client, 'close'))[0], code);
    assert.match(told.pop(), new RegExp(error));
  }
  assert.deepEqual(told, []);
});

test('a Blob that throws ends its connection; control frames of Blobs keep their place', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const got = [];
  client.on('ping', (data) => got.push(`ping ${data}`));
  client.on('message', (data) => got.push(`message ${data}`));
  assert.throws(() => ws.ping(new Blob(['a'.repeat(126)])), /125 bytes/);
  ws.send(new Blob(['1']));
  ws.ping(new Blob(['2']));
  ws.send('3');
  await once(client, 'message');
  if (got.length < 3) await once(client, 'message');
  assert.deepEqual(got, ['message 1', 'ping 2', 'message 3']);
  const errors = [];
  ws.on('error', ({ message }) => errors.push(message));
  ws.send({ size: 3, arrayBuffer: () => fail('no bytes') }, (error) => errors.push(error.message));
  ws.send('behind');
  await new Promise((resolve) => ws.on('close', resolve));
  assert.deepEqual(errors, ['no bytes', 'no bytes']);
});

test('whoever waits behind a Blob is told that the connection is over', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  let give;
  const told = [];
  const tell = (name) => (error) => told.push([name, error.message]);
  ws.send({ size: 1, arrayBuffer: () => new Promise((resolve) => (give = resolve)) }, tell('blob'));
  ws.send('text', tell('send'));
  ws.ping('ping', tell('ping'));
  ws.pong(new Blob(['pong']), tell('pong'));
  client.terminate();
  await new Promise((resolve) => ws.on('close', resolve));
  const last = new Promise((resolve) => ws.send('late', resolve));
  await last;
  give(new ArrayBuffer(1));
  while (told.length < 4) await new Promise(setImmediate);
  const words = 'The socket was closed while the blob was being read';
  assert.deepEqual(told, ['blob', 'send', 'ping', 'pong'].map((name) => [name, words]));
  assert.equal(ws.bufferedAmount, 'late'.length);
});

test('what a peer says early to a class that throws is no error of its own', async (t) => {
  const told = printed(t);
  class Failing extends WebSocket {
    constructor(...given) {
      super(...given);
      fail('class');
    }
  }
  const wss = await serve(t, { WebSocket: Failing });
  const socket = net.connect(wss.address().port, '127.0.0.1').on('error', () => {});
  const lines = Object.entries({ Host: 'localhost', Connection: 'Upgrade', Upgrade: 'websocket', ...KEY }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`GET / HTTP/1.1\r\n${lines.join('')}\r\n`);
  socket.write(Buffer.from([0x81, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0]));
  await new Promise((resolve) => socket.on('close', resolve).resume());
  // Whatever was told of it has been told when another one opens.
  wss.options.WebSocket = WebSocket;
  await pair(t, wss);
  assert.deepEqual(told, ['class']);
});

test('a listener of connection, or a callback of handleUpgrade, that rejects costs its connection', async (t) => {
  const told = printed(t);
  const wss = await serve(t);
  wss.on('connection', async () => fail('listener'));
  const server = http.createServer();
  const other = new WebSocketServer({ noServer: true, policy: POLICY });
  server.on('upgrade', (request, socket, head) => other.handleUpgrade(request, socket, head, async () => fail('callback')));
  server.listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  for (const port of [wss.address().port, server.address().port]) {
    const client = new WebSocketClient(`ws://127.0.0.1:${port}`);
    assert.equal((await once(client, 'close'))[0], 1011);
  }
  assert.deepEqual(told, ['listener', 'callback']);
});

test('a listener of wsClientError that throws costs the peer its socket', async (t) => {
  printed(t);
  const { wss } = await share(t);
  wss.on('wsClientError', () => fail('listener'));
  await assert.rejects(knock(wss.address().port, KEY, { method: 'POST' }), /hang up|ECONNRESET/);
});

test('a refusal that the core does not take is 503, and not silence', async (t) => {
  const told = printed(t);
  let refusal;
  const wss = await serve(t, { verifyClient: (_info, done) => done(false, ...refusal) });
  for (const [given, status] of [[[200], 503], [['401'], 401], [[401, 'no', { 'X-A': 'a\r\nb' }], 503]]) {
    refusal = given;
    assert.equal((await knock(wss.address().port, KEY)).status, status);
  }
  assert.match(told[0], /300 to 599/);
  assert.match(told[1], /X-A/);
});

test('verifyClient may be asynchronous, and its promise is no yes', async (t) => {
  printed(t);
  for (const [verifyClient, status] of [
    [async () => false, 401],
    [async () => fail('rejected'), 503],
    [async (_info, _done) => fail('rejected'), 503],
  ]) {
    const wss = await serve(t, { verifyClient });
    assert.equal((await knock(wss.address().port, KEY)).status, status);
  }
  const wss = await serve(t, { verifyClient: async () => true });
  await pair(t, wss);
});

test('the socket of a handshake tells its end, and ends the handshake', async (t) => {
  for (const open of [serve, async (...given) => (await share(...given)).wss]) {
    let asked;
    const infos = new Promise((resolve) => (asked = resolve));
    const wss = await open(t, { verifyClient: (info, _done) => asked(info) });
    const answer = knock(wss.address().port, KEY);
    const { req } = await infos;
    const closed = once(req.socket, 'close');
    req.socket.destroy();
    assert.equal((await answer).status, 503);
    await closed;
  }
  // The peer leaves.
  let asked;
  const infos = new Promise((resolve) => (asked = resolve));
  const wss = await serve(t, { verifyClient: (info, _done) => asked(info) });
  const client = new WebSocketClient(urlOf(wss));
  client.on('error', () => {});
  const { req } = await infos;
  const closed = once(req.socket, 'close');
  client.terminate();
  await closed;
});

test('the signal of a request that authenticate has is aborted when its peer leaves', async (t) => {
  let asked;
  const requests = new Promise((resolve) => (asked = resolve));
  const authenticate = (request) => (asked(request), new Promise(() => {}));
  const wss = await serve(t, {}, { auth: 'callback', authenticate });
  const client = new WebSocketClient(urlOf(wss));
  client.on('error', () => {});
  const { signal } = await requests;
  const aborted = once(signal, 'abort');
  client.terminate();
  await aborted;
  assert.equal(signal.reason.code, 'handshake_gone');
});

/** The request of a handshake on a stream of the application's own. */
function requestOn(socket) {
  const rawHeaders = Object.entries({ Host: 'a', Connection: 'Upgrade', Upgrade: 'websocket', ...KEY }).flat().map(String);
  const headers = {};
  for (let at = 0; at < rawHeaders.length; at += 2) headers[rawHeaders[at].toLowerCase()] = rawHeaders[at + 1];
  return { method: 'GET', url: '/', httpVersion: '1.1', headers, rawHeaders, socket };
}

/** Takes the 101; `write` is called for what follows. */
class Stream extends Duplex {
  #write;
  #isOpen = false;

  constructor(write, options) {
    super({ writableHighWaterMark: 16, ...options });
    this.#write = write;
  }

  _read() {}

  _write(chunk, _encoding, callback) {
    if (this.#isOpen) return this.#write(callback);
    this.#isOpen = true;
    callback();
  }
}

test('a stream that is never read is destroyed behind its connection', async (t) => {
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => wss.close());
  let stream;
  const stuck = new Promise((resolve) => (stream = new Stream(resolve)));
  const destroyed = once(stream, 'close');
  const ws = await new Promise((resolve) => wss.handleUpgrade(requestOn(stream), stream, Buffer.alloc(0), resolve));
  ws.send(Buffer.alloc(200_000));
  await stuck;
  const closed = once(ws, 'close');
  ws.terminate();
  await closed;
  await destroyed;
});

for (const [how, leave] of [
  ['ends', (stream) => stream.push(null)],
  ['breaks off', (stream) => stream.destroy(new Error('reset'))],
]) {
  for (const isPaused of [false, true]) {
    // As with a TLS socket, the stream closes in the turn of the peer's end: the core has not read by then what came before.
    test(`what a peer says last is told, though its stream is gone (${how}, paused: ${isPaused})`, async (t) => {
      const policy = { ...POLICY, pingIntervalMs: 0, idleTimeoutMs: 0 };
      const wss = new WebSocketServer({ noServer: true, policy });
      t.after(() => wss.close());
      const stream = new Stream((callback) => callback(), { allowHalfOpen: false });
      const ws = await new Promise((resolve) => wss.handleUpgrade(requestOn(stream), stream, Buffer.alloc(0), resolve));
      const told = [];
      ws.on('message', (data) => told.push(data.toString()));
      const closed = once(ws, 'close');
      if (isPaused) ws.pause();
      for (const text of ['a', 'b', 'c']) stream.push(Buffer.from([0x81, 0x81, 0, 0, 0, 0, text.charCodeAt(0)]));
      setImmediate(leave, stream);
      assert.equal((await closed)[0], 1006);
      assert.deepEqual(told, ['a', 'b', 'c']);
      assert.equal(wss.clients.size, 0);
    });
  }
}

test('what a peer says last is told, though nobody reads the answers', async (t) => {
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => wss.close());
  const stream = new Stream((callback) => callback(), { allowHalfOpen: false });
  const ws = await new Promise((resolve) => wss.handleUpgrade(requestOn(stream), stream, Buffer.alloc(0), resolve));
  let told = 0;
  ws.on('message', () => (told += 1));
  const closed = once(ws, 'close');
  // The core reads none of it before the stream is closed.
  ws.pause();
  const [ping, close] = [[0x89, 0x80, 0, 0, 0, 0], [0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa0]].map((bytes) => Buffer.from(bytes));
  const message = Buffer.concat([Buffer.from([0x82, 0xfe, 0x10, 0, 0, 0, 0, 0]), Buffer.alloc(4096)]);
  stream.push(Buffer.concat([...Array.from({ length: 200 }, () => [ping, message]).flat(), close]));
  setImmediate(() => stream.destroy(new Error('reset')));
  assert.equal((await closed)[0], 4000);
  assert.equal(told, 200);
});

test('the last words of a peer are not told where the application has destroyed the stream', async (t) => {
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => wss.close());
  const stream = new Stream((callback) => callback());
  const ws = await new Promise((resolve) => wss.handleUpgrade(requestOn(stream), stream, Buffer.alloc(0), resolve));
  ws.on('message', () => assert.fail('it is told'));
  ws.pause();
  stream.push(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x61]));
  setImmediate(() => stream.destroy());
  assert.equal((await once(ws, 'close'))[0], 1006);
});

test('a stream whose write throws ends its connection', async (t) => {
  printed(t);
  const wss = new WebSocketServer({ noServer: true, policy: POLICY });
  t.after(() => wss.close());
  const stream = new Stream(() => fail('write'));
  const ws = await new Promise((resolve) => wss.handleUpgrade(requestOn(stream), stream, Buffer.alloc(0), resolve));
  ws.send('a');
  assert.equal((await once(ws, 'close'))[0], 1006);
  assert.equal(stream.destroyed, true);
});

test('a callback has no error where the peer has read everything', async (t) => {
  const wss = await serve(t, {}, { maxOutboxBytes: 2 ** 25, closeTimeoutMs: 60_000 });
  const { client, ws } = await pair(t, wss);
  client.pause();
  const errors = [];
  for (let at = 0; at < 16; at += 1) ws.send(Buffer.alloc(2 ** 20), (error) => errors.push(error));
  ws.close();
  client.resume();
  await once(ws, 'close');
  assert.deepEqual(errors, Array(16).fill(undefined));
});

test('maxPayload counts on routes, too', async (t) => {
  const wss = await serve(t, { maxPayload: 1000 }, { routes: { '/large': { maxMessageBytes: 50_000 }, '/small': { maxMessageBytes: 10 } } });
  for (const [path, most] of [['/large', 1000], ['/small', 10]]) {
    const { client, ws } = await pair(t, wss, { path });
    ws.on('error', () => {});
    const got = once(ws, 'message');
    client.send(Buffer.alloc(most));
    await got;
    client.send(Buffer.alloc(most + 1));
    assert.equal((await once(client, 'close'))[0], 1009);
  }
});

test('a process ends also where the last connection has failed', async () => {
  const file = fileURLToPath(new URL('fixtures/ws-last.mjs', import.meta.url));
  for (const which of ['close', 'class']) {
    const { stdout } = await run(process.execPath, [file, which], { timeout: 60_000 });
    assert.equal(stdout, 'closed\n');
  }
});

for (const way of ['port', 'server', 'fed']) {
  test(`process.exit in a listener delivers what was said before it (${way})`, async (t) => {
    const file = fileURLToPath(new URL('fixtures/ws-exit-says-last.mjs', import.meta.url));
    const child = spawn(process.execPath, [file, way], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const [port] = await once(createInterface(child.stdout), 'line');
    const exited = once(child, 'exit');
    const clients = [0, 1].map(() => new WebSocketClient(`ws://127.0.0.1:${port}`));
    // Whoever is welcomed is among the server's clients.
    await Promise.all(clients.map((client) => once(client, 'message')));
    const heard = clients.map((client) => {
      const messages = [];
      client.on('error', () => {});
      client.on('message', (data) => messages.push(data.toString()));
      return once(client, 'close').then(() => messages);
    });
    clients[0].send('end');
    assert.deepEqual(await Promise.all(heard), [['last words'], ['last words']]);
    assert.deepEqual(await exited, [5, null]);
  });
}

test('a server ends also where a listener of the last socket throws', async (t) => {
  printed(t);
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  ws._socket.on('close', () => fail('socket'));
  const closed = new Promise((resolve) => wss.close(resolve));
  client.close();
  await closed;
});

test('who leaves in the middle of a handshake ends no process', async (t) => {
  const { wss, server } = await share(t, { verifyClient: (_info, done) => setImmediate(done, true) });
  const head = `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${Object.entries(KEY).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  for (let at = 0; at < 50; at += 1) {
    const socket = net.connect(server.address().port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    const closed = once(socket, 'close');
    socket.write(head, () => (at % 2 === 0 ? socket.destroy() : socket.resetAndDestroy()));
    await closed;
  }
  await pair(t, wss);
});

// Sharing a port with Node's HTTP servers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { connect } from 'node:net';
import { test } from 'node:test';
import express from 'express';
import Fastify from 'fastify';
import { WebSocketServer } from 'ws';
import { Server } from '../index.mjs';
import { Client, ORIGIN, handshake, policy, until } from './harness.mjs';

const addressOf = (server) => `127.0.0.1:${server.address().port}`;

function echo(t, more = {}) {
  const server = new Server(policy({ events: { echo: {} }, ...more }));
  server.on('echo', (conn, data) => conn.emit('echo', data));
  t.after(() => server.stop());
  return server;
}

async function listening(t, httpServer) {
  httpServer.listen(0, '127.0.0.1');
  await once(httpServer, 'listening');
  t.after(() => {
    httpServer.closeAllConnections();
    httpServer.close();
  });
  return addressOf(httpServer);
}

async function isServed(address, options) {
  const client = await Client.connect(address, options);
  client.emit('echo', 'hello');
  assert.equal((await client.event()).data, 'hello');
  assert.equal((await client.close(1000)).code, 1000);
}

test('http: pages and WebSockets on one port, with every verdict', async (t) => {
  const httpServer = http.createServer((_request, response) => response.end('page'));
  const server = echo(t, { paths: ['/ws'], auth: { tokens: [{ token: 'good', user: 'alice' }] } }).attach(httpServer);
  const address = await listening(t, httpServer);
  const headers = { 'x-auth-token': 'good' };
  assert.equal(await (await fetch(`http://${address}/`)).text(), 'page');
  await isServed(address, { path: '/ws', headers });
  assert.equal(await Client.refused(address, { path: '/ws' }), 401);
  assert.equal(await Client.refused(address, { path: '/other', headers }), 404);
  assert.equal(await Client.refused(address, { path: '/ws', headers, origin: 'https://evil.example' }), 403);
  assert.deepEqual([server.stats().verdicts.origin_denied, server.address], [1, '']);
});

test('a path that nobody wants is refused, however many servers are attached', async (t) => {
  const httpServer = http.createServer();
  const server = echo(t).attach(httpServer, { path: '/a' }).attach(httpServer, { path: ['/b', '/c'] });
  const other = echo(t).attach(httpServer, { path: '/d' });
  const address = await listening(t, httpServer);
  for (const path of ['/a', '/c', '/d']) await isServed(address, { path });
  for (const path of ['/e', '/']) assert.equal(await Client.refused(address, { path }), 404);
  const { hostname, port } = new URL(`http://${address}`);
  for (const [target, status] of [[`http://${address}/a?x=1`, 101], [`HTTP://${address}/e`, 404], [`http://${address}`, 404]]) {
    const socket = connect(Number(port), hostname);
    socket.write(`GET ${target} HTTP/1.1\r\nHost: ${address}\r\nOrigin: ${ORIGIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n');
    const [answer] = await once(socket, 'data');
    socket.destroy();
    assert.match(String(answer), new RegExp(`^HTTP/1\\.1 ${status} `), target);
  }
  await other.stop();
  assert.equal(await Client.refused(address, { path: '/d' }), 404);
  const foreign = (request, socket) => request.url === '/e' && socket.end('HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n');
  httpServer.on('upgrade', foreign);
  assert.equal(await Client.refused(address, { path: '/e' }), 410);
  await server.stop();
});

test('Express', async (t) => {
  const app = express();
  app.get('/', (_request, response) => response.send('express'));
  const httpServer = http.createServer(app);
  echo(t).attach(httpServer);
  const address = await listening(t, httpServer);
  assert.equal(await (await fetch(`http://${address}/`)).text(), 'express');
  await isServed(address);
});

test('Fastify', async (t) => {
  const app = Fastify();
  app.get('/', async () => 'fastify');
  echo(t).attach(app.server);
  await app.listen({ port: 0, host: '127.0.0.1' });
  t.after(() => app.close());
  const address = addressOf(app.server);
  assert.equal(await (await fetch(`http://${address}/`)).text(), 'fastify');
  await isServed(address);
});

test('paths of others are left alone', async (t) => {
  const httpServer = http.createServer();
  echo(t).attach(httpServer, { path: '/a' });
  echo(t).attach(httpServer, { path: ['/b', '/c'] });
  const other = new WebSocketServer({ noServer: true });
  httpServer.on('upgrade', (request, socket, head) => {
    if (request.url === '/other') other.handleUpgrade(request, socket, head, (ws) => ws.close(4000));
  });
  const address = await listening(t, httpServer);
  for (const path of ['/a', '/a?x=1', '/b', '/c']) await isServed(address, { path });
  assert.equal((await (await Client.connect(address, { path: '/other' })).closed).code, 4000);
});

test('a path of nobody is answered 404', async (t) => {
  const httpServer = http.createServer();
  echo(t).attach(httpServer, { path: '/a' });
  assert.equal(await Client.refused(await listening(t, httpServer), { path: '/b' }), 404);
});

test('frames behind the head, in one write with it, are read after the 101', async (t) => {
  const httpServer = http.createServer();
  echo(t).attach(httpServer);
  const [host, port] = (await listening(t, httpServer)).split(':');
  const payload = Buffer.from(JSON.stringify({ event: 'echo', data: 'early' }));
  const frame = Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
  const head =
    `GET / HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${ORIGIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';
  // All at once, and the last bytes in a write of their own.
  for (const cut of [0, 3]) {
    const socket = connect(Number(port), host);
    const bytes = Buffer.concat([Buffer.from(head), frame]);
    socket.write(bytes.subarray(0, bytes.length - cut));
    if (cut > 0) setImmediate(() => socket.write(bytes.subarray(bytes.length - cut)));
    let text = '';
    for await (const chunk of socket) if ((text += chunk).includes('early')) break;
    assert.match(text, /^HTTP\/1.1 101 /);
  }
});

test('a malformed upgrade gets its verdict', async (t) => {
  const httpServer = http.createServer();
  echo(t).attach(httpServer);
  const address = await listening(t, httpServer);
  const status = async (headers) => {
    const request = http.get(`http://${address}/`, { headers: { connection: 'upgrade', upgrade: 'websocket', origin: ORIGIN, ...headers } });
    const [response] = await once(request, 'response');
    response.resume();
    return response.statusCode;
  };
  assert.equal(await status({ 'sec-websocket-version': '12', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' }), 426);
  assert.equal(await status({ 'sec-websocket-version': '13', 'sec-websocket-key': 'short' }), 400);
});

test('no descriptor is left behind', async (t) => {
  const httpServer = http.createServer();
  const server = echo(t).attach(httpServer);
  const address = await listening(t, httpServer);
  const rounds = async (count) => {
    for (let round = 0; round < count; round += 1) {
      await isServed(address);
      await Client.refused(address, { origin: 'https://evil.example' });
    }
    while (server.stats().connections > 0) await new Promise(setImmediate);
    return readdirSync('/proc/self/fd').length;
  };
  const before = await rounds(3);
  const after = await rounds(30);
  assert.ok(after <= before + 4, `${before} descriptors before, ${after} after`);
});

test('a TLS server is refused where it is attached', (t) => {
  const server = echo(t);
  assert.throws(() => server.attach(https.createServer()), { code: 'not_supported' });
  assert.throws(() => server.attach({}), { code: 'invalid_argument' });
  assert.throws(() => echo(t, { tls: { cert: 'x', key: 'y' } }).attach(http.createServer()), { option: /^tls/ });
});

test('draining ends what was attached, not the HTTP server', async (t) => {
  const httpServer = http.createServer((_request, response) => response.end('page'));
  const server = echo(t).attach(httpServer);
  const address = await listening(t, httpServer);
  const client = await Client.connect(address);
  await server.drain();
  assert.equal((await client.closed).code, 1012);
  assert.equal(httpServer.listenerCount('upgrade'), 0);
  assert.equal(await (await fetch(`http://${address}/`)).text(), 'page');
});

for (const [path, wanted] of [['/slow', '/'], ['/large', '/'], ['/slow', '/unwanted']]) {
  test(`an upgrade (${wanted}) that is pipelined behind an answer which is not out yet is dropped: ${path}`, async (t) => {
    const answers = [];
    const httpServer = http.createServer((request, response) => {
      answers.push(response);
      if (request.url === '/large') response.end(Buffer.alloc(50_000_000, 'x'));
      if (request.url === '/quick') response.end('quick');
    });
    const address = await listening(t, httpServer);
    const server = echo(t).attach(httpServer, { path: '/' });
    const client = connect(httpServer.address().port, '127.0.0.1');
    await once(client, 'connect');
    client.pause();
    client.on('error', () => {});
    client.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n${handshake('', wanted)}`);
    await until(() => answers.length > 0 && answers[0].socket?.destroyed !== false);
    let read = '';
    client.on('data', (chunk) => (read += chunk.toString('latin1'))).resume();
    await once(client, 'close');
    assert.equal(/HTTP\/1.1 (101|404)/.test(read), false);
    assert.equal(server.stats().openedTotal, 0);
    // Behind an answer that is out it is as good as on a connection of its own.
    const patient = connect(httpServer.address().port, '127.0.0.1');
    patient.write('GET /quick HTTP/1.1\r\nHost: x\r\n\r\n');
    for (read = ''; !read.endsWith('quick'); ) read += (await once(patient, 'data'))[0].toString('latin1');
    patient.write(handshake());
    assert.match(String((await once(patient, 'data'))[0]), /^HTTP\/1.1 101 /);
    patient.destroy();
    await isServed(address);
  });
}

test('whoever ends is attached no more', async (t) => {
  const httpServer = http.createServer();
  await listening(t, httpServer);
  const server = echo(t).attach(httpServer);
  const ended = server.drain();
  assert.throws(() => server.attach(httpServer), { code: 'stopped' });
  await ended;
  assert.equal(httpServer.listenerCount('upgrade'), 0);
});

for (const server of [http.createServer(), http.createServer((_request, response) => response.end('page'))]) {
  test(`newcomers are answered 503 for as long as a server drains: ${server.listenerCount('request')} listeners`, async (t) => {
    await listening(t, server);
    const guarded = echo(t).attach(server);
    const knock = async () => {
      const socket = connect(server.address().port, '127.0.0.1').on('error', () => {});
      socket.write(handshake());
      return { socket, answer: String((await once(socket, 'data'))[0]) };
    };
    // This one does not answer its close frame.
    const silent = await knock();
    assert.match(silent.answer, /^HTTP\/1.1 101 /);
    const ended = guarded.drain({ timeoutMs: 20_000 });
    for (let count = 0; count < 3; count++) {
      const late = await knock();
      assert.match(late.answer, /^HTTP\/1.1 503 /);
      late.socket.destroy();
    }
    silent.socket.destroy();
    await ended;
    assert.equal(server.listenerCount('upgrade'), 0);
  });
}

test('whoever comes in place of a server that drains gets the newcomers', async (t) => {
  const httpServer = http.createServer();
  const address = await listening(t, httpServer);
  const old = echo(t).attach(httpServer, { path: '/' });
  const client = await Client.connect(address);
  client.socket.pause();
  const ended = old.drain({ timeoutMs: 20_000 });
  const next = echo(t).attach(httpServer, { path: '/' });
  await isServed(address);
  assert.deepEqual([old.stats().openedTotal, next.stats().openedTotal], [1, 1]);
  client.socket.terminate();
  await ended;
  await isServed(address);
  assert.equal(httpServer.listenerCount('upgrade'), 1);
});

test('one server may listen and be attached', async (t) => {
  const httpServer = http.createServer();
  const server = echo(t);
  const own = await server.listen();
  server.attach(httpServer);
  await isServed(own);
  await isServed(await listening(t, httpServer));
  assert.equal(server.stats().openedTotal, 2);
});

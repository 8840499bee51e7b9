// `wsguard/testing`, as the tests of an application use it.

import assert from 'node:assert/strict';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Server, accept, reject } from '../index.mjs';
import { connect, makeClosing, makeConnection, makeMeta, makeRequest } from '../testing/index.mjs';
import { policy, start } from './harness.mjs';

const tokens = [{ token: 'a', user: 'alice' }, { sha256: 'a'.repeat(64), user: 'hashed' }];
const limits = { origins: ['https://*.example.com'] };

test('a user of static tokens is let in, wherever the server looks for the token', async (t) => {
  for (const source of ['bearer', 'header:x-key', 'cookie:sid', 'query:t', 'subprotocol']) {
    const auth = { tokens: [{ token: 'T0k.en', user: 'alice' }] };
    const server = await start(t, { ...limits, auth, tokenSources: [source], events: { whoami: {} } });
    server.on('whoami', (conn, _data, meta) => conn.reply(meta, 'whoami', conn.user));
    const client = await connect(server, { user: 'alice', path: '/a?b=c' });
    assert.equal((await client.request('whoami')).data, 'alice');
    assert.deepEqual(await client.close(), { code: 1000, reason: '' });
  }
});

test('messages are taken by name, and kept for who takes them later', async (t) => {
  const server = await start(t, { events: { go: {} } });
  server.on('go', (conn, data, meta) => {
    conn.emit('first', data);
    conn.emit('second', 'x'.repeat(70_000));
    conn.reply(meta, 'done');
  });
  const client = await connect(server);
  client.emit('go', { deep: ['ü'] }, { id: 7 });
  assert.deepEqual(await client.expect('done'), { event: 'done', data: null, status: 'ok', id: 7 });
  assert.equal((await client.expect('second')).data.length, 70_000);
  assert.deepEqual((await client.expect('first')).data, { deep: ['ü'] });
  client.emit('go');
  await assert.rejects(client.expect('third', { timeoutMs: 50 }), { code: 'timeout', message: /no `third` came within 50 ms; what came instead: `first`, `second`, `done`/ });
  await assert.rejects(client.expectClose({ timeoutMs: 1 }), { code: 'timeout' });
  const lost = client.expect('third');
  const failed = assert.rejects(lost, { code: 'connection_closed', message: /\(1008 unknown event\); what came/ });
  client.emit('stop');
  assert.deepEqual(await client.expectClose(), { code: 1008, reason: 'unknown event' });
  await failed;
  assert.throws(() => client.emit('go'), { code: 'connection_closed' });
});

test('raw', async (t) => {
  const server = await start(t, { protocol: 'raw', subprotocols: ['v2'] });
  server.on('message', (conn, data) => (data === 'close' ? conn.close(4000, 'bye') : conn.send(data)));
  const client = await connect(server, { subprotocols: ['v1', 'v2'] });
  assert.equal(client.subprotocol, 'v2');
  for (const data of ['text', Buffer.from([1, 2]), '', '{"event":5}']) {
    client.send(data);
    assert.deepEqual(await client.message(), data);
  }
  client.send(new Uint16Array([0x0201]));
  assert.deepEqual(await client.message(), Buffer.from([1, 2]));
  client.send('close');
  assert.deepEqual(await client.closed, { code: 4000, reason: 'bye' });
  const other = await connect(server);
  assert.deepEqual(await other.terminate(), { code: 1006, reason: '' });
});

test('refusals say status and verdict', async (t) => {
  const server = await start(t, { auth: 'callback', authenticate: (request) => (request.token === 'good' ? accept({ user: 'x' }) : reject(418)) });
  await assert.rejects(connect(server), { code: 'handshake_refused', status: 418 });
  await assert.rejects(connect(server, { origin: 'https://evil.example' }), (error) => error.status === 403 && /origin_denied/.test(error.body));
  await assert.rejects(connect(server, { origin: null }), { status: 403 });
  const client = await connect(server, { token: 'good' });
  await client.close();
  await assert.rejects(connect(server, { user: 'x' }), { code: 'invalid_argument', message: /auth is "callback"; give .*headers/ });
});

test('what cannot be is said', async (t) => {
  const server = await start(t, { auth: { tokens } });
  await assert.rejects(connect(server, { user: 'hashed' }), { message: /only the hash/ });
  await assert.rejects(connect(server, { user: 'bob' }), { message: /no token .* of "bob"/ });
  await assert.rejects(connect(new Server(policy())), { code: 'not_started' });
});

test('names that mean nothing are errors, which say what may be', async (t) => {
  const server = await start(t, { events: { go: {} } });
  await assert.rejects(connect(server, { usr: 'x' }), { code: 'invalid_argument', message: /not `usr`; did you mean `user`/ });
  await assert.rejects(connect(server, { timeoutMs: '5' }), { code: 'invalid_argument' });
  await assert.rejects(connect({}), { code: 'invalid_argument', message: /takes a server/ });
  const client = await connect(server, { timeoutMs: 2 ** 40 });
  assert.throws(() => client.emit('go', 1, { ID: 5 }), { code: 'invalid_argument', message: /not `ID`; did you mean `id`/ });
  assert.throws(() => client.reply({ id: 1, event: 'go' }, 1, { state: 'ok' }), { code: 'invalid_argument' });
  for (const wait of ['message', 'expectClose']) await assert.rejects(client[wait]({ timeout: 5 }), { code: 'invalid_argument' });
  for (const wait of ['expect', 'request']) await assert.rejects(wait === 'expect' ? client.expect('x', 50) : client.request('x', 1, { timeout: 5 }), { code: 'invalid_argument' });
  const patient = client.expect('went', { timeoutMs: 2 ** 40 });
  [...server.connections][0].emit('went');
  assert.equal((await patient).event, 'went');
});

test('routes, Unix sockets, attached servers, and after a reload', async (t) => {
  const listen = `unix:${path.join(tmpdir(), `wsguard-${process.pid}.sock`)}`;
  const routes = { '/a/{x}': { auth: { tokens: [{ token: 't', user: 'root' }] }, origins: ['https://admin.example'], tokenSources: ['cookie:c'] } };
  const server = await start(t, { listen, routes });
  const client = await connect(server, { user: 'root', path: '/a/5', headers: { Cookie: 'x=y' } });
  await client.close();
  const app = http.createServer();
  t.after(() => app.close());
  await new Promise((done) => app.listen(0, '127.0.0.1', done));
  const beside = new Server(policy());
  t.after(() => beside.stop());
  beside.attach(app);
  await assert.rejects(connect(beside), { code: 'not_started', message: /only attached/ });
  beside.reload(policy({ origins: ['https://other.example'] }));
  const second = await connect(beside, { address: `127.0.0.1:${app.address().port}` });
  await second.close();
});

test('handlers can be called without a server', async () => {
  const handler = (conn, data, meta) => {
    if (!conn.roles.includes('admin')) return conn.close(4003, 'no');
    conn.join(conn.params.room);
    return conn.reply(meta, 'said', { user: conn.user, text: data.text });
  };
  const { conn, sent } = makeConnection({ user: 'alice', roles: ['admin'], params: { room: 'r' }, data: { n: 1 } });
  assert.equal(handler(conn, { text: 'hi' }, makeMeta({ event: 'say', id: 5 })), 'sent');
  assert.deepEqual(sent, [{ event: 'said', data: { user: 'alice', text: 'hi' }, id: 5, status: 'ok' }]);
  assert.deepEqual([conn.rooms, conn.data, conn.isOpen], [['r'], { n: 1 }, true]);
  assert.throws(() => conn.emit('x', 5n), { code: 'invalid_argument' });
  assert.throws(() => conn.send('x'), { code: 'invalid_argument' });
  const other = makeConnection();
  handler(other.conn, {}, makeMeta());
  assert.deepEqual(other.sent, [{ close: 4003, reason: 'no' }]);
  assert.equal(other.conn.signal.aborted, true);
  assert.equal(other.conn.emit('x'), 'closed');
  const raw = makeConnection({ protocol: 'raw' });
  raw.conn.send(Buffer.from('x'));
  assert.deepEqual(raw.sent, [Buffer.from('x')]);
  const request = makeRequest({ path: '/x', query: 'a=1', headers: { Cookie: 'sid=1; b=2; sid=3', 'X-A': 'y' } });
  assert.deepEqual([request.url, request.cookies.sid, request.get('x-a'), request.ip], ['/x?a=1', '1', 'y', '127.0.0.1']);
  assert.equal(makeClosing({ clean: false }).clean, false);
  for (const wrong of [() => makeConnection({ usr: '' }), () => makeRequest({ url: '' }), () => makeMeta({ name: '' }), () => makeClosing(5)]) {
    assert.throws(wrong, { code: 'invalid_argument' });
  }
});

test('a client that offers compression talks compressed', async (t) => {
  const words = 'again and again, '.repeat(100);
  const echo = async (more) => {
    const server = await start(t, { events: { echo: {} }, ...more });
    server.on('echo', (conn, data, meta) => conn.reply(meta, 'echo', data));
    return server;
  };
  const server = await echo({ compression: { thresholdBytes: 0 } });
  const client = await connect(server, { compression: true });
  assert.equal(client.compressed, true);
  for (const data of [words, 'ü'.repeat(5000)]) assert.equal((await client.request('echo', data)).data, data);
  const plain = await connect(server);
  assert.equal(plain.compressed, false);
  assert.equal((await plain.request('echo', words)).data, words);
  const { messagesCompressedIn, messagesCompressedOut } = server.stats();
  assert.deepEqual([messagesCompressedIn, messagesCompressedOut], [2, 2]);
  const without = await connect(await echo({}), { compression: true });
  assert.equal(without.compressed, false);
  assert.equal((await without.request('echo', words)).data, words);
  await assert.rejects(connect(server, { compression: {} }), { code: 'invalid_argument', message: /compression is true or false/ });
});

test('raw messages are compressed as they are, empty ones too', async (t) => {
  const server = await start(t, { protocol: 'raw', compression: { thresholdBytes: 0 } });
  server.on('message', (conn, data) => conn.send(data));
  const client = await connect(server, { compression: true });
  for (const data of ['', Buffer.alloc(0), 'x'.repeat(60_000), Buffer.alloc(65_536), Buffer.from('äöü')]) {
    client.send(data);
    assert.deepEqual(await client.message(), data);
  }
});

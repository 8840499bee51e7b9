// Nothing is accepted in silence: wrong arguments, unknown names and keys are errors where they are written.

import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import { test } from 'node:test';
import express from 'express';
import Fastify from 'fastify';
import { accept, acceptAnonymous, reject, Server } from '../index.mjs';
import { Client, policy, start } from './harness.mjs';

const refused = (message) => ({ name: 'TypeError', code: 'invalid_argument', message });
const SYMBOL = Symbol('x');

for (const [name, call, message] of [
  ['a string', () => accept('alice'), /accept takes \{ user, data, expiresAtMs, roles, subprotocol, headers \}, got a string/],
  ['nothing', () => accept(), /got nothing/],
  ['null', () => accept(null), /got null/],
  ['another name', () => accept({ username: 'alice' }), /not `username`; did you mean `user`\?/],
  ['an undefined user', () => accept({ user: {}.usr }), /accept needs a user, got undefined; acceptAnonymous\(\)/],
  ['a user that is null', () => accept({ user: null }), /got null/],
  ['no user', () => accept({ data: 5 }), /acceptAnonymous/],
  ['an empty user', () => accept({ user: '' }), /user must be 1 to 256 bytes/],
  ['a long user', () => accept({ user: '€'.repeat(86) }), /got 258/],
  ['a user with a line break', () => accept({ user: 'a\nb' }), /control/],
  ['a user with half a surrogate pair', () => accept({ user: 'a\udc00' }), /surrogate/],
  ['a user that is a number', () => accept({ user: 5 }), /got number/],
  ['an end that is none', () => accept({ user: 'a', expiresAtMs: NaN }), /expiresAtMs/],
  ['an end before time', () => accept({ user: 'a', expiresAtMs: -1 }), /expiresAtMs/],
  ['an end that is a Date', () => accept({ user: 'a', expiresAtMs: new Date() }), /expiresAtMs/],
  ['another name for the end', () => accept({ user: 'a', expires: 1 }), /not `expires`/],
  ['a user for nobody', () => acceptAnonymous({ user: 'alice' }), /takes no user/],
  ['a string for nobody', () => acceptAnonymous('alice'), /./],
  ['a status that is none', () => reject(200), /300 to 599, got 200/],
  ['a status beyond', () => reject(65_936), /300 to 599/],
  ['half a status', () => reject(401.5), /300 to 599/],
  ['a status in words', () => reject('401'), /got string/],
]) {
  test(`an answer to a handshake: ${name}`, () => assert.throws(call, refused(message)));
}

test('an answer cannot be made another one', () => {
  for (const answer of [accept({ user: 'alice' }), acceptAnonymous()]) {
    for (const name of ['user', 'data', 'expiresAtMs']) assert.throws(() => (answer[name] = undefined), TypeError);
  }
  assert.throws(() => (reject().status = 200), TypeError);
});

test('answers that are right', () => {
  assert.deepEqual({ ...accept({ user: 'alice', data: 1, expiresAtMs: 5 }) }, { user: 'alice', data: 1, expiresAtMs: 5 });
  assert.deepEqual({ ...acceptAnonymous() }, { user: undefined, data: undefined, expiresAtMs: undefined });
  assert.equal(reject().status, 401);
});

const listener = () => {};
for (const [name, more, call, message] of [
  ['a slip', {}, (server) => server.on('sya', listener), /`sya` is neither .*; did you mean `say`\?/],
  ['the name of Socket.IO', {}, (server) => server.on('connection', listener), /`open` tells of connections here/],
  ['the same of its end', {}, (server) => server.once('disconnect', listener), /`close` tells/],
  ['message under json', {}, (server) => server.addListener('message', listener), /protocol: "raw"/],
  ['event under raw', { protocol: 'raw', events: undefined }, (server) => server.prependListener('event', listener), /protocol: "json"/],
  ['onEvent', {}, (server) => server.onEvent('sey', listener), /no event of the contract; did you mean `say`\?/],
  ['offEvent', {}, (server) => server.offEvent('nothing', listener), /no event of the contract/],
  ['a number', {}, (server) => server.on(5, listener), /must be a string/],
  ['to send by emit', {}, (server) => server.emit('said', {}), /server\.toAll\(\)\.emit/],
  ['to send an event of the contract by emit', {}, (server) => server.emit('say', {}), /server\.toAll\(\)\.emit/],
]) {
  test(`a name of an event: ${name}`, () => assert.throws(() => call(new Server(policy({ events: { say: {} }, ...more }))), refused(message)));
}

test('names that are right, symbols, and events called like those of the server', () => {
  const server = new Server(policy({ events: { say: {}, close: {}, connection: {} } }));
  for (const name of ['open', 'close', 'event', 'violation', 'drained', 'error', 'stopped', 'newListener', 'say', 'connection', SYMBOL]) {
    server.on(name, listener).off(name, listener);
  }
  // As ever in Node.
  assert.throws(() => server.emit('error', new Error('nobody listens')), /nobody listens/);
  assert.equal(server.emit('open'), false);
});

test('an event called like one of the server has listeners of its own, whatever its name', async (t) => {
  const server = await start(t, { events: { close: {}, 'event:close': {} } });
  const heard = [];
  server.onEvent('close', () => heard.push('close'));
  server.onEvent('event:close', () => heard.push('event:close'));
  const client = await Client.connect(server.address);
  client.emit('event:close');
  client.emit('close');
  while (heard.length < 2) await new Promise(setImmediate);
  assert.deepEqual(heard, ['event:close', 'close']);
});

test('listen, attach and drain say what they take', async (t) => {
  const server = new Server(policy({ events: {} }));
  for (const given of [[8080], [8080, () => {}], ['127.0.0.1:0'], [{ port: 5 }], [null], [{ signal: 5 }], [undefined, () => {}]]) {
    await assert.rejects(server.listen(...given), { code: 'invalid_argument' });
  }
  for (const [given, message] of [
    [express(), /Express application/],
    [Fastify(), /Fastify: app\.server/],
    [http2.createServer(), /http\.Server; got a Http2Server/],
    [new EventEmitter(), /got a EventEmitter/],
    [undefined, /got undefined/],
    [null, /got null/],
    [8080, /got number/],
  ]) {
    assert.throws(() => server.attach(given), refused(message));
  }
  const httpServer = http.createServer();
  for (const [options, message] of [
    [{ paths: ['/a'] }, /not `paths`; did you mean `path`\?/],
    [{ path: 'chat' }, /must begin with \//],
    [{ path: '/a?b' }, /neither \? nor #/],
    [{ path: [] }, /at least one/],
    [{ path: ['/a', 5] }, /got number/],
    ['/a', /got a string/],
  ]) {
    assert.throws(() => server.attach(httpServer, options), refused(message));
  }
  assert.equal(httpServer.listenerCount('upgrade'), 0);
  await server.listen();
  t.after(() => server.stop());
  for (const given of [{ timeout: 5 }, { timeoutMs: Infinity }, { jitterMs: -1 }, { jitterMs: '5' }, 5000]) {
    await assert.rejects(server.drain(given), { code: 'invalid_argument' });
  }
  for (const given of [[], [{}, {}, {}]]) assert.throws(() => server.handleUpgrade(...given), refused(/handleUpgrade takes/));
  for (const user of [undefined, null, '', 5, 'a\ud800']) assert.throws(() => server.disconnectUser(user), refused(/user must/));
  for (const room of [undefined, null, '', []]) assert.throws(() => server.to(room), refused(/room must/));
});

test('a connection says what it takes', async (t) => {
  const [server, other] = [await start(t, { protocol: 'raw' }), await start(t, { protocol: 'raw' })];
  const [opened, elsewhere] = [once(server, 'open'), once(other, 'open')];
  const client = await Client.connect(server.address);
  await Client.connect(other.address);
  const [[conn], [foreign]] = [await opened, await elsewhere];
  for (const code of ['1000', null, NaN, 1.5, 0, 999, 1005, 1006, 5000, -1, 66_536, 1e10, Infinity]) {
    assert.throws(() => conn.close(code), { code: 'invalid_argument' });
  }
  for (const reason of [5, null, 'x'.repeat(124), 'a\ud800']) assert.throws(() => conn.close(1000, reason), { code: 'invalid_argument' });
  for (const wrong of [undefined, null, conn.id, {}, [conn], foreign, new Proxy(conn, {}), Object.create(conn)]) {
    assert.throws(() => server.to('r').except(wrong), refused(/except takes connections of this server/));
  }
  assert.throws(() => server.to('r').except(), refused(/except takes/));
  for (const wrong of [undefined, null, 5, {}, ['x'], SYMBOL, () => {}]) {
    for (const send of [() => conn.send(wrong), () => server.toAll().send(wrong)]) assert.throws(send, refused(/a message must be/));
  }
  for (const [call, message] of [
    [() => conn.send('x', () => {}), /send takes one message and \{ compress \}, and no callback .*, got function besides/],
    [() => conn.send('x', { binary: true }), /send takes \{ compress \}, not `binary`/],
    [() => conn.send('x', { compress: 'no' }), /compress must be a boolean, got string/],
    [() => conn.send('x', null), /got null besides/],
    [() => conn.send('x', {}, () => {}), /got 3 arguments/],
    [() => server.toAll().send('x', { compress: 0 }), /compress must be a boolean, got number/],
    [() => conn.join('a', 'b'), /join takes one room/],
    [() => conn.leave('a', 'b'), /leave takes one room/],
    [() => server.to(), /to takes a room/],
    [() => server.toAll('a'), /server\.to\(room\)/],
    [() => server.to('a').send('x', () => {}), /no callback/],
  ]) {
    assert.throws(call, refused(message));
  }
  assert.deepEqual(conn.rooms, []);
  for (const name of ['id', 'ip', 'user', 'path', 'subprotocol', 'roles', 'query', 'headers', 'signal', 'closed', 'isOpen', 'isQueued', 'bufferedAmount']) {
    assert.throws(() => (conn[name] = 'other'), TypeError, name);
  }
  assert.equal(conn.isOpen, true);
  conn.send('still');
  assert.equal(await client.message(), 'still');
});

test('a connection says what it takes of events', async (t) => {
  const server = await start(t, { events: {} });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  for (const event of [undefined, null, 5, SYMBOL, {}, '']) {
    for (const emit of [() => conn.emit(event, 1), () => conn.reply({ id: 1 }, event, 1), () => server.toAll().emit(event, 1)]) {
      assert.throws(emit, refused(/event must/));
    }
  }
  for (const [call, message] of [
    [() => conn.emit('x', 1, 2), /one value/],
    [() => conn.emit('x', 1, () => {}), /no callback/],
    [() => conn.reply({ id: 1 }, 'x', 1, 2), /reply takes/],
    [() => server.toAll().emit('x', 1, 2), /one value/],
  ]) {
    assert.throws(call, refused(message));
  }
  for (const meta of [null, 'id', 5, SYMBOL, () => {}]) assert.throws(() => conn.reply(meta, 'x', 1), refused(/reply takes the meta/));
  conn.emit('still');
  assert.equal((await client.event()).event, 'still');
});

test('a room too many is an error', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  for (let room = 0; room < 1024; room += 1) conn.join(`r${room}`);
  conn.join('r5');
  assert.throws(() => conn.join('one more'), refused(/1024 rooms/));
  conn.leave('r0');
  // It counts until the connection's thread has come to it.
  for (let isIn = false; !isIn; ) {
    try {
      conn.join('one more');
      isIn = true;
    } catch (error) {
      assert.equal(error.code, 'invalid_argument');
      await new Promise(setImmediate);
    }
  }
  assert.equal(conn.rooms.length, 1024);
  server.to('one more').send('here');
  assert.equal(await client.message(), 'here');
});

test('whoever is left out stays so, however many', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const [conns, clients] = [[], []];
  for (let at = 0; at < 4; at += 1) {
    const opened = once(server, 'open');
    clients.push(await Client.connect(server.address));
    conns.push((await opened)[0]);
  }
  conns[3].leave('r');
  for (const conn of conns.slice(0, 3)) conn.join('r');
  const [a, b, c] = conns;
  server.to('r').except(a).except(b).send('c only');
  server.to('r').except(a, b, c).send('nobody');
  server.to('r').except(a).except(a).send('b and c');
  server.toAll().except(b, c).send(Buffer.from('a and d'));
  server.toAll().send('end');
  const got = [];
  for (const client of clients) {
    const messages = [];
    for (let text = ''; text !== 'end'; ) messages.push((text = String(await client.message())));
    got.push(messages.slice(0, -1).join(', '));
  }
  assert.deepEqual(got, ['a and d', 'b and c', 'c only, b and c', 'a and d']);
});

test('a connection is shown without its data', async (t) => {
  const { inspect } = await import('node:util');
  const server = await start(t, { protocol: 'raw', auth: 'callback', authenticate: () => accept({ user: 'alice', data: { secret: 's3cret' } }) });
  const opened = once(server, 'open');
  await Client.connect(server.address);
  const [conn] = await opened;
  for (const shown of [inspect(conn), JSON.stringify(conn), inspect({ conn }, { depth: 9 }), JSON.stringify({ ...conn })]) {
    assert.equal(shown.includes('s3cret'), false, shown);
  }
  assert.match(inspect(conn), /user: 'alice'/);
  assert.equal(conn.data.secret, 's3cret');
});

test('an address that is taken says what the system said', async (t) => {
  const first = await start(t);
  await assert.rejects(new Server(policy({ listen: first.address })).listen(), (error) => {
    assert.deepEqual([error.code, error.option, error.cause?.code], ['listen_failed', 'listen', 'EADDRINUSE']);
    return error instanceof Error;
  });
  const second = new Server(policy({ listen: first.address }));
  await assert.rejects(second.listen(), { code: 'listen_failed' });
  assert.throws(() => second.to('room'), { code: 'not_started' });
  await first.stop();
  assert.equal(await second.listen(), first.address, 'it was not started before');
  await second.stop();
});

test('a signal is forgotten when the server has ended', async () => {
  const { signal } = new AbortController();
  let listeners = 0;
  for (const [name, step] of [['addEventListener', 1], ['removeEventListener', -1]]) {
    const original = signal[name];
    signal[name] = function (...given) {
      listeners += step;
      return original.apply(this, given);
    };
  }
  const server = new Server(policy());
  await server.listen({ signal });
  assert.equal(listeners, 1);
  await server.stop();
  assert.equal(listeners, 0);
});

test('on a Unix socket an attached server answers, and says once why it cannot serve', { skip: process.platform === 'win32' }, async (t) => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const path = await import('node:path');
  const { connect } = await import('node:net');
  const folder = mkdtempSync(path.join(tmpdir(), 'wsguard-'));
  const httpServer = http.createServer();
  const server = new Server(policy()).attach(httpServer);
  const errors = [];
  server.on('error', (error) => errors.push(error.code));
  t.after(async () => {
    httpServer.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  });
  httpServer.listen(path.join(folder, 's'));
  await once(httpServer, 'listening');
  for (let round = 0; round < 3; round += 1) {
    const socket = connect(path.join(folder, 's'));
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += chunk;
    assert.match(text, /^HTTP\/1\.1 503 /);
  }
  assert.deepEqual(errors, ['not_supported']);
});

const cyclic = {};
cyclic.cyclic = cyclic;
for (const [name, more, option, message] of [
  ['events in a Map', { events: new Map([['say', {}]]) }, 'events', /got a Map/],
  ['options of a class', { rateLimit: new (class Limit { perSecond = 5; })() }, 'rateLimit', /got a Limit/],
  ['a Set', { hosts: new Set(['a']) }, 'hosts', /got a Set/],
  ['what contains itself', { jsonLimits: cyclic }, /jsonLimits/, /contains itself/],
  ['a schema in the place of its event', { events: { say: { '~standard': {} } } }, 'events.say', /put it under `schema`/],
  ['a schema of Valibot', { events: { say: { schema: { '~standard': { vendor: 'valibot', validate: () => {} } } } } }, 'events.say.schema', /@valibot\/to-json-schema/],
]) {
  test(`an option: ${name}`, () => {
    assert.throws(() => new Server(policy(more)), (error) => {
      assert.equal(error.code, 'invalid_option');
      assert.match(error.option, option instanceof RegExp ? option : new RegExp(`^${option.replaceAll('.', '\\.')}$`));
      assert.match(error.message, message);
      return true;
    });
  });
}

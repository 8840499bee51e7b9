// What is around handlers: middleware, an `open` that takes its time, the end of a connection, errors.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { accept } from '../index.mjs';
import { Client, start, turns, until } from './harness.mjs';

function deferred() {
  let resolve;
  let reject;
  const promise = new Promise((done, failed) => ([resolve, reject] = [done, failed]));
  return { promise, resolve, reject };
}

for (const protocol of ['raw', 'json']) {
  test(`${protocol}: messages wait for the handlers of open, in their order`, async (t) => {
    const slow = z.string().refine(async () => true);
    const server = await start(t, protocol === 'raw' ? { protocol } : { events: { a: {}, b: { schema: slow } } });
    const gate = deferred();
    const heard = [];
    server.on('open', async (conn) => {
      await gate.promise;
      heard.push('opened');
      conn.data = 'ready';
    });
    const hear = (conn, data) => void heard.push(`${conn.data} ${data}`);
    for (const event of protocol === 'raw' ? ['message'] : ['a', 'b']) server.on(event, hear);
    const client = await Client.connect(server.address);
    for (let at = 0; at < 70; at += 1) protocol === 'raw' ? client.send(String(at)) : client.emit(at % 2 ? 'a' : 'b', String(at));
    const other = await Client.connect(server.address);
    await until(() => server.stats().messagesIn >= 64);
    await sleep(20);
    assert.deepEqual(heard, []);
    gate.resolve();
    await until(() => heard.length === 72);
    assert.deepEqual(heard.filter((one) => one !== 'opened'), Array.from({ length: 70 }, (_, at) => `ready ${at}`));
    await Promise.all([client.close(), other.close()]);
  });
}

test('an open that rejects closes, and no message is handled', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const gate = deferred();
  const opened = once(server, 'open');
  server.on('open', () => gate.promise);
  server.on('message', () => assert.fail('handled'));
  const failed = once(server, 'error');
  const closed = new Promise((resolve) => server.on('close', (_conn, code) => resolve(code)));
  const client = await Client.connect(server.address);
  client.send('x');
  await opened;
  await until(() => server.stats().messagesIn === 1);
  gate.reject(new Error('as asked'));
  const [error, conn, event] = await failed;
  assert.deepEqual([error.message, conn.isOpen, event], ['as asked', false, 'open']);
  assert.equal((await client.closed).code, 1011);
  assert.equal(await closed, 1011);
});

test('the close of a peer that left during open comes behind what it sent', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const gate = deferred();
  const heard = [];
  server.on('open', () => gate.promise);
  server.on('message', (_conn, data) => void heard.push(data));
  server.on('close', () => heard.push('closed'));
  const client = await Client.connect(server.address);
  client.send('x');
  await client.close();
  await until(() => server.stats().connections === 0);
  gate.resolve();
  await until(() => heard.length === 2);
  assert.deepEqual(heard, ['x', 'closed']);
});

test('signal and closed tell of the end, also without a listener of close', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const conns = [];
  server.on('message', (conn) => conns.push(conn));
  const client = await Client.connect(server.address);
  client.send('x');
  await until(() => conns.length === 1);
  const [conn] = conns;
  assert.equal(conn.signal, conn.signal);
  assert.equal(conn.signal.aborted, false);
  const atAbort = [];
  conn.signal.addEventListener('abort', () => atAbort.push(conn.isOpen));
  const rejected = sleep(1e6, undefined, { signal: conn.signal }).catch((error) => error.cause);
  const { closed } = conn;
  await client.close(3000, 'bye');
  const { code, reason, clean } = await closed;
  assert.deepEqual([code, reason, clean], [3000, 'bye', true]);
  const why = await rejected;
  assert.deepEqual([why.code, why.closeCode, why.reason, why.clean], ['connection_closed', 3000, 'bye', true]);
  assert.equal(conn.signal.reason, why);
  assert.deepEqual(atAbort, [false]);
  assert.match(why.message, /3000: bye/);
});

test('who asks after the end gets it at once', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const closed = once(server, 'close');
  const client = await Client.connect(server.address);
  await client.close();
  const [conn] = await closed;
  assert.equal(conn.signal.aborted, true);
  assert.equal((await conn.closed).code, 1005);
});

test('who asks while messages from before the end still wait gets it at once', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const gate = deferred();
  const opened = once(server, 'open');
  server.on('open', () => gate.promise);
  const closes = [];
  server.on('close', (_conn, code) => void closes.push(code));
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  client.send('waits');
  await client.close(4000);
  await assert.rejects(conn.ping(), { code: 'connection_closed' });
  assert.equal((await conn.closed).code, 4000);
  assert.equal(conn.signal.aborted, true);
  assert.deepEqual(closes, [], 'its message waits for open, and its close behind that');
  gate.resolve();
  await until(() => closes.length === 1);
});

test('stop settles closed', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const opened = once(server, 'open');
  await Client.connect(server.address);
  const [conn] = await opened;
  const { closed } = conn;
  await server.stop();
  assert.equal((await closed).clean, false);
});

test('middleware goes around every handler, in order, and may change, skip and catch', async (t) => {
  const als = new AsyncLocalStorage();
  const server = await start(t, { events: { say: {}, skip: {}, bad: {}, caught: {}, close: {} } });
  const seen = [];
  const returned = server.use(async (conn, call, next) => {
    seen.push(`> ${call.event}`);
    try {
      await als.run(call.event, next);
    } catch (error) {
      if (call.event !== 'caught') throw error;
      conn.emit('sorry', error.message);
    }
    seen.push(`< ${call.event}`);
  });
  assert.equal(returned, server);
  server.use((_conn, call, next) => {
    if (call.event === 'skip') return undefined;
    if (call.event === 'say') call.data += '!';
    return next();
  });
  server.on('open', () => void seen.push('open'));
  server.on('event', (_conn, data) => void seen.push(`any ${data}`));
  server.on('say', async (conn, data, meta) => {
    await null;
    seen.push(`${als.getStore()} ${data}`);
    conn.reply(meta, 'said', data);
  });
  server.on('skip', () => assert.fail('skipped'));
  server.on('caught', () => { throw new Error('as asked'); });
  server.on('bad', () => { throw new Error('as asked'); });
  server.on('close', (_conn, code, { clean }) => void seen.push(`close ${code} ${clean}`));
  const client = await Client.connect(server.address);
  client.emit('say', 'hi', { id: 1 });
  assert.deepEqual(await client.event(), { event: 'said', data: 'hi!', status: 'ok', id: 1 });
  client.emit('skip', 1);
  client.emit('caught', 2);
  assert.equal((await client.event()).data, 'as asked');
  const failed = once(server, 'error');
  client.emit('bad', 3);
  assert.equal((await client.closed).code, 1011);
  const [error, conn, event] = await failed;
  assert.deepEqual([error.message, conn.isOpen, event], ['as asked', false, 'bad']);
  await until(() => seen.at(-1) === '< close');
  assert.deepEqual(seen, [
    '> open', 'open', '< open', '> say', 'any hi!', 'say hi!', '< say', '> skip', '< skip', '> caught', 'any 2', '< caught',
    '> bad', 'any 3', '> close', 'close 1011 true', '< close',
  ]);
});

for (const [name, middleware] of [
  ['that throws', () => { throw new Error('as asked'); }],
  ['that rejects', async () => { throw new Error('as asked'); }],
  ['that drops its next', (_conn, _call, next) => void next()],
  ['that calls next twice', async (_conn, _call, next) => { await next().catch(() => {}); await next(); }],
  ['that looks at its next and drops that', (_conn, _call, next) => void next().finally(() => {})],
  ['that throws behind next', async (_conn, _call, next) => { void next(); throw new Error('as asked'); }],
]) {
  test(`a middleware ${name} costs one connection`, async (t) => {
    const server = await start(t, { protocol: 'raw' });
    server.use((conn, call, next) => (call.data === 'bad' ? middleware(conn, call, next) : next()));
    server.on('message', async (conn, data) => {
      await null;
      if (data === 'bad') throw new Error('as asked');
      conn.send(data);
    });
    const errors = [];
    server.on('error', (error, _conn, event) => errors.push([error.message, event]));
    const [bad, good] = [await Client.connect(server.address), await Client.connect(server.address)];
    bad.send('bad');
    assert.equal((await bad.closed).code, 1011);
    good.send('good');
    assert.equal(await good.message(), 'good');
    const expected = name.endsWith('twice') ? 'next() was called twice' : 'as asked';
    assert.deepEqual(errors, [[expected, 'message']]);
  });
}

for (const [name, wrap] of [['', () => {}], [', also within a middleware', (server) => server.use((_conn, _call, next) => next())]]) {
  test(`every handler of close is called, also behind one that failed${name}`, async (t) => {
    const server = await start(t, { protocol: 'raw' });
    wrap(server);
    const told = [];
    server.on('close', () => { throw new Error('as asked'); });
    server.on('close', () => void told.push('close'));
    server.on('error', ({ message }, _conn, event) => void told.push([message, event]));
    const client = await Client.connect(server.address);
    await client.close(1000);
    await until(() => told.length === 2);
    assert.deepEqual(told.filter((one) => one === 'close'), ['close']);
    assert.deepEqual(told.filter((one) => one !== 'close'), [['as asked', 'close']]);
  });
}

test('a handler that fails within a middleware is the last one, also of messages that waited', async (t) => {
  const server = await start(t, { events: { say: {} }, paths: ['/', '/good'] });
  server.use(async (_conn, _call, next) => {
    await next();
  });
  const opening = deferred();
  server.on('open', ({ path }) => (path === '/' ? opening.promise : undefined));
  server.on('error', () => {});
  const heard = [];
  server.on('say', ({ path }, data) => {
    heard.push(data);
    if (path === '/') throw new Error('as asked');
  });
  const [bad, good] = [await Client.connect(server.address), await Client.connect(server.address, { path: '/good' })];
  for (const data of [1, 2, 3]) bad.emit('say', data);
  await until(() => server.stats().messagesIn === 3);
  // Behind this one the others are known to wait.
  good.emit('say', 0);
  await until(() => heard.length > 0);
  opening.resolve();
  assert.equal((await bad.closed).code, 1011);
  assert.deepEqual(heard, [0, 1]);
});

test('much may listen to the signals, and no peer makes Node warn of it', async (t) => {
  const warnings = [];
  const warn = ({ name }) => warnings.push(name);
  process.on('warning', warn);
  t.after(() => process.off('warning', warn));
  const listen = (signal) => {
    for (let count = 0; count < 20; count += 1) signal.addEventListener('abort', () => {});
  };
  const authenticate = ({ signal }) => {
    listen(signal);
    return accept({ user: 'alice' });
  };
  const server = await start(t, { protocol: 'raw', auth: 'callback', authenticate });
  server.on('open', ({ signal }) => listen(signal));
  const client = await Client.connect(server.address);
  await client.close();
  await turns(2);
  assert.deepEqual(warnings.filter((name) => name === 'MaxListenersExceededWarning'), []);
});

test('no handler is called for a connection that has ended while a middleware worked', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  let go;
  const gate = new Promise((resolve) => { go = resolve; });
  const seen = [];
  server.use(async (_conn, call, next) => {
    seen.push(call.event);
    if (call.event === 'message') await gate;
    return next();
  });
  server.on('message', () => assert.fail('it has ended'));
  const closed = once(server, 'close');
  const client = await Client.connect(server.address);
  client.send('x');
  await until(() => seen.includes('message'));
  for (const conn of server.connections) conn.close(4000);
  go();
  assert.equal((await client.closed).code, 4000);
  await closed;
});

test('the leaving of a peer settles at once what a handler of open waits for', async (t) => {
  const server = await start(t, { events: { ask: {} } });
  const began = deferred();
  const settled = [];
  server.on('open', async (conn) => {
    const all = [conn.call('ask').catch((error) => error.code), conn.ping().catch((error) => error.code)];
    conn.signal.addEventListener('abort', () => settled.push('signal'));
    began.resolve();
    settled.push(...(await Promise.all(all)));
    settled.push(await conn.call('ask').catch((error) => error.code));
  });
  const closed = once(server, 'close');
  const client = await Client.connect(server.address, { autoPong: false });
  await began.promise;
  const leftAt = performance.now();
  client.socket.terminate();
  await closed;
  assert.ok(performance.now() - leftAt < 5000);
  assert.deepEqual(settled.sort(), ['connection_closed', 'connection_closed', 'connection_closed', 'signal']);
});

test('the leaving of a peer is no failure of a handler that waits for something of it, and no other error is hidden', async (t) => {
  const server = await start(t, { events: { go: {}, ask: {} } });
  const errors = [];
  server.on('error', (error) => void errors.push(error.message));
  const ways = {
    signal: (conn) => sleep(1e6, undefined, { signal: conn.signal }),
    reason: (conn) => new Promise((_, reject) => conn.signal.addEventListener('abort', () => reject(conn.signal.reason))),
    call: (conn) => conn.call('ask'),
    ping: (conn) => conn.ping(),
    own: (conn) => conn.closed.then(() => { throw new Error('own'); }),
    hostile: (conn) => conn.closed.then(() => { throw { get cause() { throw new Error('trap'); }, message: 'hostile' }; }),
    other: () => other.call('ask'),
  };
  let running = 0;
  server.on('go', (conn, name) => {
    running += 1;
    return ways[name](conn).finally(() => (running -= 1));
  });
  const opened = once(server, 'open');
  const left = await Client.connect(server.address, { autoPong: false });
  const [other] = await opened;
  const client = await Client.connect(server.address, { autoPong: false });
  for (const name of Object.keys(ways)) client.emit('go', name);
  await until(() => running === 7);
  left.socket.terminate();
  // What it waits for is of another connection: that handler fails, and its connection is closed.
  await until(() => running === 0);
  assert.deepEqual(errors.sort(), ['hostile', 'own', 'the connection was closed before an answer to `ask` came']);
});

test('a binary message that waits for open keeps no more than itself', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const gate = deferred();
  server.on('open', () => gate.promise);
  const heard = [];
  server.on('message', (_conn, data) => heard.push(data));
  const client = await Client.connect(server.address);
  for (const byte of [1, 2, 3]) client.send(Buffer.from([byte]));
  await new Promise((resolve) => { client.socket.once('pong', resolve); client.socket.ping(); });
  // Events come in order: the second open is behind the messages.
  const second = once(server, 'open');
  await Client.connect(server.address);
  await second;
  gate.resolve();
  await until(() => heard.length === 3);
  assert.deepEqual(heard.map((data) => [data[0], data.buffer.byteLength]), [[1, 1], [2, 1], [3, 1]]);
});

test('a call in open is answered behind more than 64 messages that wait', async (t) => {
  const server = await start(t, { events: { ask: {}, say: {}, echo: {} } });
  const gate = deferred();
  const answers = [];
  server.on('echo', (conn, data, meta) => void conn.reply(meta, 'echo', data));
  server.on('open', async (conn) => {
    if (conn.path === '/other') return;
    await gate.promise;
    for (let round = 0; round < 2; round += 1) answers.push(await conn.call('ask', round, { timeoutMs: 3000 }).catch((error) => error.code));
  });
  server.on('say', () => {});
  const client = await Client.connect(server.address);
  for (let at = 0; at < 100; at += 1) client.emit('say', at);
  await until(() => server.stats().messagesIn >= 64);
  // The answer says that this thread has taken what was read before.
  const other = await Client.connect(server.address, { path: '/other' });
  other.emit('echo', 1);
  await other.event();
  gate.resolve();
  for (let round = 0; round < 2; round += 1) {
    const { id } = await client.event();
    for (let at = 0; at < 20; at += 1) client.emit('say', at);
    client.emit('ask', 'yes', { id, status: 'ok' });
  }
  await until(() => answers.length === 2);
  assert.deepEqual(answers, ['yes', 'yes']);
});

test('a ping or call that nobody waits for ends no process', async (t) => {
  const server = await start(t, { events: { ask: {} } });
  let rejected = 0;
  const count = () => { rejected += 1; };
  process.on('unhandledRejection', count);
  t.after(() => process.off('unhandledRejection', count));
  const opened = once(server, 'open');
  const client = await Client.connect(server.address, { autoPong: false });
  const [conn] = await opened;
  void conn.call('ask', 1, { timeoutMs: 5 });
  // A peer that answers nothing.
  for (let count = 0; count < 20; count += 1) void conn.ping();
  for (let count = 0; count < 1030; count += 1) void conn.call('ask');
  await assert.rejects(conn.ping(), { message: /16 pings/ });
  await assert.rejects(conn.call('ask'), { code: 'too_many_calls' });
  assert.equal(rejected, 0);
  conn.terminate();
  void conn.ping();
  void conn.call('ask');
  await client.closed;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(rejected, 0);
  await assert.rejects(conn.ping(), { code: 'connection_closed' });
});

test('use takes functions', async (t) => {
  const server = await start(t);
  for (const wrong of [undefined, {}, 'x']) assert.throws(() => server.use(wrong), { code: 'invalid_argument' });
});

// The application's part: authentication, handlers that fail, the order of handlers, schemas with transforms.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { inspect } from 'node:util';
import { test } from 'node:test';
import { z } from 'zod';
import { Server, accept, acceptAnonymous, reject } from '../index.mjs';
import { Client, policy, run, start, turns, until } from './harness.mjs';

const callback = (authenticate, more = {}) => ({ auth: 'callback', authenticate, events: { echo: {} }, ...more });

test('authenticate sees the request, and gives user and data', async (t) => {
  let seen;
  const server = await start(t, callback(async (request) => {
    seen = request;
    return accept({ user: 'alice', data: { role: 'admin' } });
  }, { subprotocols: ['x'] }));
  const opened = once(server, 'open');
  await Client.connect(server.address, {
    path: '/ws?a=b',
    protocols: ['x'],
    headers: { authorization: 'Bearer secret-token', cookie: 'a=1; b=2; a=3', 'x-two': ['1', '2'] },
  });
  const [conn] = await opened;
  assert.equal(conn.subprotocol, 'x');
  assert.deepEqual([conn.user, conn.data, conn.path, conn.ip], ['alice', { role: 'admin' }, '/ws', '127.0.0.1']);
  assert.deepEqual([seen.method, seen.path, seen.query, seen.url, seen.ip], ['GET', '/ws', 'a=b', '/ws?a=b', '127.0.0.1']);
  assert.deepEqual([seen.get('X-Two'), seen.headers['x-two'], seen.token], ['1', '1, 2', 'secret-token']);
  assert.deepEqual({ ...seen.cookies }, { a: '1', b: '2' });
  assert.equal(inspect(seen).includes('secret'), false);
  assert.equal(JSON.stringify(seen).includes('secret'), false);
});

for (const [name, authenticate, status, isError] of [
  ['a rejection', () => reject(), 401, false],
  ['a rejection of another status', async () => reject(418), 418, false],
  ['a throw', () => { throw new Error('no'); }, 503, true],
  ['a rejected promise', async () => { throw new Error('no'); }, 503, true],
  ['no answer at all', () => undefined, 503, true],
  ['an answer of another kind', () => true, 503, true],
  ['a status that is none', () => reject(200), 503, true],
  ['a user that is none', () => accept({ user: '' }), 503, true],
  ['silence', () => new Promise(() => {}), 503, false],
]) {
  test(`${name} refuses with ${status}`, async (t) => {
    const server = await start(t, callback(authenticate, { authTimeoutMs: 100 }));
    const errors = [];
    server.on('error', (error) => errors.push(error));
    assert.equal(await Client.refused(server.address), status);
    assert.equal(errors.length, isError ? 1 : 0, String(errors));
  });
}

test('a late answer is an error to the application, and nothing else', async (t) => {
  let answer;
  const server = await start(t, callback(() => new Promise((resolve) => (answer = resolve)), { authTimeoutMs: 50 }));
  const told = once(server, 'error');
  assert.equal(await Client.refused(server.address), 503);
  answer(accept({ user: 'late' }));
  assert.equal((await told)[0].code, 'ticket_settled');
});

for (const isHeard of [false, true]) {
  test(`an answer behind the end of the server is told to ${isHeard ? 'whoever listens' : 'nobody, and not printed'}`, async (t) => {
    const printed = t.mock.method(console, 'error', () => {});
    const errors = [];
    for (const answer of [accept({ user: 'alice' }), reject(), undefined]) {
      let settle;
      const server = await start(t, callback(() => new Promise((resolve) => (settle = resolve))));
      if (isHeard) server.on('error', (error) => errors.push(error.code));
      const left = new Client(server.address);
      await until(() => settle !== undefined);
      await server.stop();
      settle(answer);
      await turns(2);
      await left.closed;
    }
    assert.deepEqual(errors, isHeard ? ['stopped', 'stopped', 'invalid_argument'] : []);
    assert.equal(printed.mock.callCount(), 0);
  });
}

test('a session ends when it expires', async (t) => {
  const server = await start(t, callback(() => acceptAnonymous({ expiresAtMs: Date.now() + 50 })));
  const client = await Client.connect(server.address);
  assert.deepEqual(await client.closed, { code: 1008, reason: 'session expired' });
});

for (const [name, handler] of [
  ['throws', () => { throw new Error('as asked'); }],
  ['rejects', async () => { throw new Error('as asked'); }],
  ['rejects later', async () => { await new Promise(setImmediate); throw new Error('as asked'); }],
]) {
  test(`a handler that ${name} closes its connection with 1011`, async (t) => {
    const server = await start(t, { events: { bad: {}, echo: {} } });
    const errors = [];
    server.on('error', (error, conn) => errors.push([error.message, conn.id]));
    server.on('bad', handler);
    server.on('echo', (conn, data) => conn.emit('echo', data));
    const [bad, good] = [await Client.connect(server.address), await Client.connect(server.address)];
    const [first] = server.connections;
    bad.emit('bad');
    assert.deepEqual(await bad.closed, { code: 1011, reason: 'internal error' });
    good.emit('echo', 'alive');
    assert.equal((await good.event()).data, 'alive');
    assert.deepEqual(errors, [['as asked', first.id]]);
  });
}

test('what comes behind a message whose handler threw is not handled', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const seen = [];
  server.on('error', () => {});
  server.on('message', (_conn, data) => {
    seen.push(data);
    throw new Error('as asked');
  });
  const client = await Client.connect(server.address);
  client.socket._socket.cork();
  for (const text of ['a', 'b', 'c']) client.send(text);
  client.socket._socket.uncork();
  await client.closed;
  assert.deepEqual(seen, ['a']);
});

test('without a listener of error the process lives, and standard error says why', async () => {
  const { code, out, err } = await run('handler-throws.mjs');
  assert.equal(code, 0, err);
  assert.equal(out, 'closed 1011\n');
  assert.match(err, /wsguard: a handler of connection \w+ failed: Error: as asked/);
});

test('what a handler does at once after an await comes before the next handler', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const order = [];
  const done = new Promise((resolve) => {
    server.on('message', async (_conn, data) => {
      order.push(`${data}1`);
      await null;
      order.push(`${data}2`);
      await undefined;
      order.push(`${data}3`);
      if (data === 'c') resolve();
    });
  });
  const client = await Client.connect(server.address);
  client.socket._socket.cork();
  for (const text of ['a', 'b', 'c']) client.send(text);
  client.socket._socket.uncork();
  await done;
  assert.deepEqual(order, ['a1', 'a2', 'a3', 'b1', 'b2', 'b3', 'c1', 'c2', 'c3']);
});

test('a handler that waits does not hold up the next message', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  let open;
  const gate = new Promise((resolve) => (open = resolve));
  server.on('message', async (conn, data) => {
    if (data === 'slow') await gate;
    conn.send(data);
    if (data === 'fast') open();
  });
  const client = await Client.connect(server.address);
  client.send('slow');
  client.send('fast');
  assert.deepEqual([await client.message(), await client.message()], ['fast', 'slow']);
});

test('timers have their turn while handlers return promises', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  let handled = 0;
  let before;
  server.on('message', async () => {
    if (handled === 0) setTimeout(() => (before = handled), 1);
    handled += 1;
    const end = performance.now() + 1;
    while (performance.now() < end);
  });
  const client = await Client.connect(server.address);
  client.socket._socket.cork();
  for (let round = 0; round < 300; round += 1) client.send('x');
  client.socket._socket.uncork();
  while (handled < 300) await new Promise(setImmediate);
  assert.ok(before < 300, `the timer waited for ${before} messages`);
});

test('timers and other input have their turn under a flood', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const client = await Client.connect(server.address);
  let handled = 0;
  let atTimer;
  const done = new Promise((resolve) => {
    server.on('message', () => {
      if (handled === 0) setTimeout(() => (atTimer = handled), 1);
      const end = performance.now() + 0.2;
      while (performance.now() < end);
      if ((handled += 1) === 500) resolve();
    });
  });
  for (let round = 0; round < 500; round += 1) client.send('x');
  await done;
  assert.ok(atTimer < 500, `the timer ran after ${atTimer} messages`);
});

test('once, off and removeAllListeners', async (t) => {
  const server = await start(t, { events: { echo: {} } });
  const seen = [];
  const listener = () => seen.push('on');
  server.once('echo', () => seen.push('once'));
  server.on('echo', listener);
  server.on('echo', (conn) => conn.emit('done'));
  const client = await Client.connect(server.address);
  const round = async () => {
    client.emit('echo');
    await client.event();
  };
  await round();
  await round();
  server.off('echo', listener);
  await round();
  assert.deepEqual(seen, ['once', 'on', 'on']);
  server.removeAllListeners('echo');
  server.on('echo', (conn) => conn.emit('other'));
  client.emit('echo');
  assert.equal((await client.event()).event, 'other');
});

test('a Standard Schema: the JSON Schema natively, then its own validation and transform', async (t) => {
  const schema = z.object({ at: z.string().transform(Number), text: z.string().min(1) }).refine((data) => data.at > 0);
  const server = await start(t, { events: { say: { schema } } });
  server.on('say', (conn, data) => conn.emit('heard', data));
  const told = once(server, 'violation');
  const client = await Client.connect(server.address);
  client.emit('say', { at: '5', text: 'x' });
  assert.deepEqual((await client.event()).data, { at: 5, text: 'x' });
  client.emit('say', { at: '-5', text: 'x' });
  assert.deepEqual(await client.closed, { code: 1008, reason: 'schema mismatch' });
  assert.equal((await told)[0].code, 'schema_mismatch');
  assert.equal(server.stats().verdicts.schema_mismatch, 1);
  const native = await Client.connect(server.address);
  native.emit('say', { at: 5, text: 'x' });
  assert.deepEqual(await native.closed, { code: 1008, reason: 'schema mismatch' });
});

test('what JSON Schema or the native patterns cannot say is left to validate, where the rest is stated', async (t) => {
  const refused = z.object({ every: z.string().regex(/^(?=P)P\d+D$/) });
  for (const schema of [refused, z.object({ at: z.date() })]) {
    assert.throws(() => new Server(policy({ events: { remind: { schema } } })), (error) => {
      assert.equal(error.code, 'invalid_option');
      assert.match(error.option, /^events\.remind\.schema/);
      assert.match(error.message, /~standard.*jsonSchema/);
      return true;
    });
  }
  const part = { type: 'object', properties: { every: { type: 'string', maxLength: 8 } }, required: ['every'] };
  const stated = { '~standard': { ...refused['~standard'], jsonSchema: { input: () => part } } };
  const server = await start(t, { events: { remind: { schema: stated } } });
  server.on('remind', (conn, data) => conn.emit('heard', data));
  const client = await Client.connect(server.address);
  client.emit('remind', { every: 'P7D' });
  assert.deepEqual((await client.event()).data, { every: 'P7D' });
  client.emit('remind', { every: 'weekly' });
  assert.equal((await client.closed).code, 1008);
  const long = await Client.connect(server.address);
  long.emit('remind', { every: 'P1111111D' });
  assert.equal((await long.closed).code, 1008);
  // The second was refused natively: nothing was left to say for JavaScript.
  assert.deepEqual([server.stats().messagesIn, server.stats().verdicts.schema_mismatch], [2, 2]);
});

test('an asynchronous Standard Schema, one that throws, one without a JSON Schema', async (t) => {
  const standard = (validate) => ({ '~standard': { version: 1, vendor: 'test', validate, jsonSchema: { input: () => ({ type: 'string' }) } } });
  const server = await start(t, { events: {
    slow: { schema: standard(async (value) => ({ value: value.toUpperCase() })) },
    bad: { schema: standard(() => { throw new Error('as asked'); }) },
  } });
  server.on('slow', (conn, data) => conn.emit('heard', data));
  const told = once(server, 'error');
  const client = await Client.connect(server.address);
  client.emit('slow', 'x');
  assert.equal((await client.event()).data, 'X');
  client.emit('bad', 'x');
  assert.equal((await client.closed).code, 1011);
  assert.equal((await told)[0].message, 'as asked');
  const none = { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value }) } };
  await assert.rejects(start(t, { events: { say: { schema: none } } }), { code: 'invalid_option', option: 'events.say.schema' });
});

// What throws costs one connection, is told once, and the server goes on.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { inspect } from 'node:util';
import { test } from 'node:test';
import { accept, acceptAnonymous, Server } from '../index.mjs';
import { Client, fixture, policy, run, start } from './harness.mjs';

/** Errors that do harm when they are looked at. */
class Unprintable extends Error {
  [inspect.custom]() {
    throw new Error('not to be looked at');
  }

  get message() {
    throw new Error('nor read');
  }
}
const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};

const FAULTS = {
  'an error that cannot be printed': () => { throw new Unprintable(); },
  nothing: () => { throw undefined; },
  'a revoked proxy': () => { throw revoked(); },
  'a symbol': () => { throw Symbol('x'); },
  'an object without a prototype': () => { throw Object.create(null); },
  'a promise of an error that cannot be printed': async () => { throw new Unprintable(); },
  'an object whose then throws': () => ({ get then() { throw new Error('as asked'); } }),
  'an object whose then() throws': () => ({ then() { throw new Error('as asked'); } }),
  'a stack overflow': () => {
    const deeper = () => deeper() + 1;
    return deeper();
  },
};

async function serves(server) {
  const client = await Client.connect(server.address);
  client.emit('good', 'x');
  assert.equal((await client.event()).data, 'x');
}

for (const [name, fault] of Object.entries(FAULTS)) {
  for (const listens of ['nobody', 'a listener', 'a listener that throws', 'a listener that rejects']) {
    test(`a handler gives ${name}; ${listens} hears of it`, async (t) => {
      const printed = [];
      t.mock.method(console, 'error', (...what) => {
        printed.push(what);
        throw new Error('console.error is forbidden here');
      });
      t.mock.method(process.stderr, 'write', () => true);
      const server = await start(t, { events: { bad: {}, good: {} } });
      let heard = 0;
      if (listens !== 'nobody') {
        server.on('error', () => {
          heard += 1;
          if (listens.endsWith('throws')) throw new Unprintable();
          if (listens.endsWith('rejects')) return Promise.reject(new Unprintable());
        });
      }
      server.on('bad', fault);
      server.on('good', (conn, data) => void conn.emit('good', data));
      const bad = await Client.connect(server.address);
      const good = await Client.connect(server.address);
      bad.emit('bad');
      assert.equal((await bad.closed).code, 1011);
      good.emit('good', 'x');
      assert.equal((await good.event()).data, 'x');
      await serves(server);
      assert.equal(heard, listens === 'nobody' ? 0 : 1);
      assert.equal(printed.length > 0, listens !== 'a listener');
    });
  }
}

for (const answer of [undefined, null, true, [], {}, { success: false }, { issues: undefined }]) {
  for (const given of [answer, Promise.resolve(answer)]) {
    test(`a schema that answers ${JSON.stringify(answer)}${given === answer ? '' : ', later,'} lets nothing through`, async (t) => {
      const schema = { '~standard': { version: 1, vendor: 'test', jsonSchema: { input: () => ({}) }, validate: () => given } };
      const server = await start(t, { events: { bad: { schema } } });
      const errors = [];
      server.on('error', (error) => errors.push(error.code));
      server.on('bad', () => errors.push('handled'));
      const client = await Client.connect(server.address);
      client.emit('bad', 1);
      assert.equal((await client.closed).code, 1011);
      assert.deepEqual(errors, ['invalid_argument']);
    });
  }
}

for (const [name, listener, first, most] of [
  ['', undefined, 'a handler of connection', 11],
  [', where the listener of error throws', () => { throw new Error('as well'); }, 'a listener of error', 21],
  [', where the listener of error rejects', async () => { throw new Error('as well'); }, 'a listener of error', 21],
]) {
  test(`a peer that makes handlers fail does not fill standard error${name}`, async (t) => {
    const printed = [];
    t.mock.method(console, 'error', (...what) => printed.push(String(what[0])));
    const server = await start(t, { events: { bad: {} } });
    server.on('bad', () => { throw new Error('as asked'); });
    if (listener !== undefined) server.on('error', listener);
    const fail = async () => {
      const client = await Client.connect(server.address);
      client.emit('bad');
      assert.equal((await client.closed).code, 1011);
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: 60 }, fail));
    const spans = Math.floor((performance.now() - began) / 1000) + 1;
    assert.ok(printed.length >= 10 && printed.length <= spans * most, `${printed.length} in ${spans} s`);
    // The next one that is printed brings the number of those that were not.
    const unprinted = () => printed.map((line) => Number(/(\d+) more failures/.exec(line)?.[1] ?? 0)).reduce((sum, count) => sum + count);
    const single = () => printed.filter((line) => line.includes(first)).length;
    let failed = 60;
    while (unprinted() === 0 || unprinted() + single() < failed) {
      await fail();
      failed += 1;
    }
    assert.equal(unprinted() + single(), failed);
  });
}

for (const [name, authenticate] of [
  ['whose then throws', () => ({ get then() { throw new Error('as asked'); } })],
  ['whose then() throws', () => ({ then() { throw new Error('as asked'); } })],
  ['that answers twice', () => ({ then(ok, fail) { fail(new Error('as asked')); ok(accept({ user: 'x' })); } })],
  ['that is a revoked proxy', () => revoked()],
  ['without a user', ({ user }) => accept({ user })],
]) {
  test(`an answer ${name} refuses one handshake`, async (t) => {
    const errors = [];
    let isBad = true;
    const server = new Server(policy({
      events: { good: {} },
      // The function says it.
      auth: undefined,
      authenticate: (request) => (isBad ? authenticate(request) : acceptAnonymous()),
    }));
    t.after(() => server.stop());
    server.on('error', (error) => errors.push(error));
    server.on('good', (conn, data) => void conn.emit('good', data));
    await server.listen();
    assert.equal(await Client.refused(server.address), 503);
    assert.equal(errors.length, 1);
    isBad = false;
    await serves(server);
  });
}

test('an accept of another copy of the package is one', async (t) => {
  const { createRequire } = await import('node:module');
  const require = createRequire(import.meta.url);
  const cached = Object.keys(require.cache).filter((name) => name.includes('authenticate.js'));
  for (const name of cached) delete require.cache[name];
  const other = require('../lib/authenticate.js');
  assert.notEqual(other.accept, accept);
  const server = await start(t, { auth: 'callback', authenticate: () => other.accept({ user: 'alice' }), events: { good: {} } });
  const opened = once(server, 'open');
  await Client.connect(server.address);
  assert.equal((await opened)[0].user, 'alice');
});

test('to look at the connections while events are taken loses none', async () => {
  // A listener of `error` may do it: it is called while what was said is handed over.
  const { createRequire } = await import('node:module');
  const require = createRequire(import.meta.url);
  const { Inbox } = require('../lib/inbox.js');
  const records = require('../lib/records.js');
  const chunks = ['abcde', 'fghij'];
  const native = {
    announce: () => null,
    take(buffer) {
      const words = new Uint32Array(buffer.buffer, 0, 64);
      const text = chunks.shift();
      words.set([text?.length ?? 0, 2, 0, 0]);
      for (let at = 0; at < (text?.length ?? 0); at += 1) words.set([records.TEXT, 0, at, 1], (at + 1) * 4);
      return text ?? null;
    },
  };
  const heard = [];
  const outbox = { flush: () => void [...inbox.connections()] };
  const inbox = new Inbox(native, outbox, [], { hears: () => true, onRaw: (_conn, text) => void heard.push(text), onFault: assert.fail });
  void [...inbox.connections()];
  inbox.wake();
  while (heard.length < 10) await new Promise(setImmediate);
  assert.equal(heard.join(''), 'abcdefghij');
});

test('a connection that could not be made costs no other one its close', async () => {
  const { createRequire } = await import('node:module');
  const require = createRequire(import.meta.url);
  const { Inbox } = require('../lib/inbox.js');
  const records = require('../lib/records.js');
  const elements = [['bad'], ['good'], 'reason of bad', null, null, 'reason of good', null, 'peer of good'];
  const all = [[records.OPEN, 0], [records.OPEN, 1], [records.CLOSE, 0], [records.CLOSE, 1]];
  let [isTaken, isOver] = [false, false];
  const native = {
    announce: () => null,
    take(buffer) {
      const words = new Uint32Array(buffer.buffer, 0, 64);
      words.set([isTaken ? 0 : all.length, records.JSON_TEXT, 0, 0]);
      for (const [at, [kind, place]] of all.entries()) words.set([kind, place, 1000, 1], (at + 1) * 4);
      const text = isTaken ? null : JSON.stringify(elements);
      [isTaken, isOver] = [true, isTaken];
      return text;
    },
  };
  const [closed, faults] = [[], []];
  const sink = {
    hears: () => true,
    onOpen() {},
    onClose: (conn, code, { reason, clean }, peer) => void closed.push([conn?.id, code, reason, clean, peer]),
    onFault: (error) => faults.push(error.message),
    makeConnection(_low, _high, [id]) {
      if (id === 'bad') throw new Error(id);
      return { id, user: null };
    },
  };
  const inbox = new Inbox(native, { flush() {} }, [], sink);
  // Both look what they know of before there is anything; the first also takes what has come.
  inbox.ofId('good');
  inbox.ofUser('somebody');
  inbox.wake();
  while (!isOver) await new Promise(setImmediate);
  assert.deepEqual(closed, [[undefined, 1000, 'reason of bad', true, null], ['good', 1000, 'reason of good', true, 'peer of good']]);
  assert.deepEqual(faults, ['bad']);
});

test('shared memory that grows while it is sent costs no other message', { skip: !SharedArrayBuffer.prototype.grow }, async () => {
  const { createRequire } = await import('node:module');
  const { Outbox } = createRequire(import.meta.url)('../lib/outbox.js');
  const flushed = [];
  const native = { flush: (_words, _count, _bytes, _byteCount, _text, large) => (flushed.push(large?.length), null) };
  const outbox = new Outbox(native, {}, 2 ** 20, assert.fail);
  const memory = new SharedArrayBuffer(100_000, { maxByteLength: 200_000 });
  const bytes = new Uint8Array(memory);
  const { length } = bytes;
  memory.grow(200_000);
  outbox.binary(0, 0, bytes, length);
  assert.deepEqual(flushed, [100_000]);
});

test('a message that is moved to another thread', async () => {
  const { code, out, err } = await run('transferred.mjs');
  assert.deepEqual([out, code], ['served\n', 0], err);
});

for (const [name, end, expected] of [
  ['process.exit in a handler', ({ client }) => client.send('you'), ['last words to you', 'and bytes']],
  ['process.exit in a handler of SIGTERM', ({ child }) => child.kill('SIGTERM'), ['terminated']],
]) {
  test(`${name} delivers what was said before it`, async (t) => {
    const child = spawn(process.execPath, [fixture('exit-says-last.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const [address] = await once(createInterface(child.stdout), 'line');
    const client = await Client.connect(address);
    const exited = once(child, 'exit');
    end({ client, child });
    for (const message of expected) assert.equal(String(await client.message()), message);
    assert.deepEqual(await exited, [0, null]);
  });
}

test('an event that nobody listens to is warned of once', async (t) => {
  const server = await start(t, { events: { typing: {}, good: {} } });
  server.on('good', (conn, data) => void conn.emit('good', data));
  const warned = [];
  const listener = (warning) => warning.code === 'WSGUARD_UNHEARD' && warned.push(warning.message);
  process.on('warning', listener);
  t.after(() => process.off('warning', listener));
  const client = await Client.connect(server.address);
  for (let round = 0; round < 3; round += 1) client.emit('typing');
  client.emit('good', 'x');
  await client.event();
  await new Promise(setImmediate);
  assert.deepEqual(warned, ['an event `typing` came, and nobody listens to it']);
});

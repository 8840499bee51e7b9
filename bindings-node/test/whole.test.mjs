// A command is whole or not at all: whatever throws leaves nothing behind for others.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { runInNewContext } from 'node:vm';
import { test } from 'node:test';
import { Client, start } from './harness.mjs';

const SECRET = 'SECRET-FOR-B-ONLY';

/** A server with two connections, `a` and `b`, and what each of the clients gets up to `end`. */
async function two(t, more = {}) {
  const server = await start(t, { protocol: 'raw', ...more });
  const conns = [];
  const clients = [];
  for (let round = 0; round < 2; round += 1) {
    const opened = once(server, 'open');
    clients.push(await Client.connect(server.address));
    conns.push((await opened)[0]);
  }
  const got = async (client) => {
    const messages = [];
    for (;;) {
      const message = String(await client.message());
      if (message === 'end') return messages;
      messages.push(message);
    }
  };
  return { server, a: conns[0], b: conns[1], got: () => Promise.all(clients.map(got)) };
}

function detached(length = 16) {
  const bytes = Buffer.from(new ArrayBuffer(length));
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** A view whose resizable buffer became too small for it; where Node has none, a detached one. */
function outOfBounds() {
  const buffer = new ArrayBuffer(64, { maxByteLength: 128 });
  const view = new Uint8Array(buffer, 32, 32);
  if (typeof buffer.resize !== 'function') return detached();
  buffer.resize(8);
  return view;
}

class Liar extends Uint8Array {
  get length() {
    return 100_000;
  }

  get byteLength() {
    return 100_000;
  }
}

const pretends = Object.defineProperty(Buffer.from('x'), 'length', { value: 5000 });

for (const [name, throws] of [
  ['a detached Buffer', ({ a }) => a.send(detached())],
  ['a large detached Buffer', ({ a }) => a.send(detached(100_000))],
  ['a detached ArrayBuffer', ({ a }) => a.send(detached().buffer)],
  ['a detached DataView', ({ a }) => {
    const view = new DataView(new ArrayBuffer(8));
    structuredClone(view.buffer, { transfer: [view.buffer] });
    a.send(view);
  }],
  ['a view that is out of bounds', ({ a }) => a.send(outOfBounds())],
  ['a detached Buffer for a room', ({ server }) => server.toAll().send(detached())],
  ['a proxy of a Buffer', ({ a }) => a.send(new Proxy(Buffer.from('x'), {}))],
  ['an object that pretends', ({ a }) => a.send(Object.create(Uint8Array.prototype))],
  ['nobody to leave out', ({ server }) => server.toAll().except(null).send('for a')],
  ['a text of almost 2^29 characters', ({ a }) => a.send('x'.repeat(2 ** 29 - 30))],
  ['such a text as an event', ({ a }) => a.emit('x'.repeat(2 ** 29 - 30), 1)],
  ['such a text as data', ({ server }) => server.toAll().emit('x', 'x'.repeat(2 ** 22))],
  ['an id that is a symbol', ({ a }) => a.reply({ id: Symbol('x') }, 'x', 1)],
  ['an id that is a function', ({ a }) => a.reply({ id: () => {} }, 'x', 1)],
  ['an id that is an object', ({ a }) => a.reply({ id: {} }, 'x', 1)],
  ['an id that is no whole number', ({ a }) => a.reply({ id: 1.5 }, 'x', 1)],
  ['data that contains itself', ({ a }) => {
    const data = {};
    data.data = data;
    a.emit('x', data);
  }],
  ['a bigint', ({ a }) => a.emit('x', 5n)],
  ['data whose getter throws', ({ a }) => a.emit('x', { get data() { throw new Error('as asked'); } })],
  ['data whose toJSON throws a number', ({ a }) => a.emit('x', { toJSON() { throw 5; } })],
  ['an empty event', ({ a }) => a.emit('', 1)],
  ['an event with half a surrogate pair', ({ a }) => a.emit('x\ud800', 1)],
  ['what is too large for any peer', ({ a }) => a.send(Buffer.alloc(2_000_000))],
]) {
  test(`${name} is refused, and sends nothing`, async (t) => {
    const all = await two(t);
    for (let round = 0; round < 2; round += 1) {
      assert.throws(() => throws(all), { name: 'TypeError', code: 'invalid_argument' });
      all.b.send(Buffer.from(SECRET));
      all.b.emit('b', 'only');
      assert.throws(() => throws(all), { code: 'invalid_argument' });
      all.a.emit('a', 'mine');
      all.b.send(`${SECRET} too`);
    }
    all.server.toAll().send('end');
    const [first, second] = await all.got();
    const [mine, only] = ['a', 'b'].map((event) => JSON.stringify({ event, data: event === 'a' ? 'mine' : 'only', status: 'ok' }));
    assert.deepEqual(first, [mine, mine]);
    assert.deepEqual(second, [SECRET, only, `${SECRET} too`, SECRET, only, `${SECRET} too`]);
  });
}

test('bytes are measured by themselves, whatever they say of their length', async (t) => {
  const { server, a, b, got } = await two(t);
  a.send(new Liar(3).fill(0x61));
  a.send(pretends);
  b.send(Buffer.from(SECRET));
  a.send(runInNewContext('new Uint8Array([0x62]).buffer'));
  a.send(runInNewContext('new Uint16Array([0x6363])'));
  server.toAll().send('end');
  assert.deepEqual(await got(), [['aaa', 'x', 'b', 'cc'], [SECRET]]);
});

test('what is sent is read when it is sent, whatever its size', async (t) => {
  const { server, a, got } = await two(t);
  for (const size of [1, 5000, 8192, 20_000, 65_536, 65_537, 200_000]) {
    const bytes = new Uint8Array(new ArrayBuffer(size)).fill(0x61);
    a.send(bytes);
    bytes.fill(0x62);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  }
  const resizable = new ArrayBuffer(20_000, { maxByteLength: 40_000 });
  a.send(new Uint8Array(resizable).fill(0x61));
  resizable.resize?.(10);
  server.toAll().send('end');
  const sizes = (await got())[0].map((text) => (/^a+$/.test(text) ? text.length : text));
  assert.deepEqual(sizes, [1, 5000, 8192, 20_000, 65_536, 65_537, 200_000, 20_000]);
});

test('the memory of received messages, which is others\' as well, is not sent', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const heard = [];
  server.on('message', (conn, data) => {
    heard.push(String(data));
    assert.throws(() => conn.send(data.buffer), { code: 'invalid_argument', message: /other connections/ });
    assert.throws(() => conn.send(new Uint8Array(data.buffer)), { code: 'invalid_argument' });
    conn.send(data);
  });
  const client = await Client.connect(server.address);
  for (const message of ['x', 'y'.repeat(65_536), 'z'.repeat(65_535)]) {
    client.send(Buffer.from(message));
    assert.equal(String(await client.message()), message);
  }
});

test('what fits into maxOutboxBytes is measured in bytes, with all that is around it', async (t) => {
  const maxOutboxBytes = 1 << 16;
  const most = maxOutboxBytes - 4; // the header of the frame
  const server = await start(t, { protocol: 'raw', maxOutboxBytes });
  const errors = [];
  server.on('error', (error) => errors.push(error.message));
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  const around = Buffer.byteLength('{"event":"€\\"\\u0001","data":"","status":"ok"}');
  const event = '€"\u0001';
  for (const [call, other] of [
    [(text) => conn.send(text), 0],
    [(text) => conn.send(Buffer.from(text)), 0],
    [(text) => conn.emit(event, text), around],
    [(text) => conn.reply({ id: '"' }, event, text), around + ',"id":"\\""'.length],
    [(text) => server.toAll().send(text), 0],
    [(text) => server.toAll().send(Buffer.from(text)), 0],
    [(text) => server.toAll().emit(event, text), around],
  ]) {
    for (const text of ['x'.repeat(most - other + 1), 'é'.repeat((most - other + 2) >> 1)]) {
      assert.throws(() => call(text), { code: 'invalid_argument', message: /maxOutboxBytes \(65536\)/ });
    }
    call('x'.repeat(most - other));
    assert.equal(Buffer.byteLength(await client.message()), most);
  }
  assert.deepEqual([conn.isOpen, errors], [true, []]);
});

test('an error of one command leaves those around it', async (t) => {
  const { server, a, b, got } = await two(t);
  const data = {
    toJSON() {
      // In the middle of one command another is said.
      b.send('between');
      return 1;
    },
  };
  a.emit('outer', data);
  a.reply({ get id() { b.send('again'); return 7; } }, 'reply', data);
  server.toAll().send('end');
  assert.deepEqual(await got(), [
    ['{"event":"outer","data":1,"status":"ok"}', '{"event":"reply","data":1,"status":"ok","id":7}'],
    ['between', 'again', 'between'],
  ]);
});

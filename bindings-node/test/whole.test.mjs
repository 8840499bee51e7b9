// A command is whole or not at all: whatever throws leaves nothing behind for others.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { runInNewContext } from 'node:vm';
import { test } from 'node:test';
import { Client, start } from './harness.mjs';

const SECRET = 'SECRET-FOR-B-ONLY';

const PROTOCOLS = { raw: { protocol: 'raw' }, json: { events: {} } };

/**
 * A server with two connections, `a` and `b`, and what each of the clients gets up to `end`: messages, or the data of events.
 * `say` sends what the protocol has to a connection or an audience.
 */
async function two(t, protocol = 'raw') {
  const server = await start(t, PROTOCOLS[protocol]);
  const say = (target, text) => (protocol === 'raw' ? target.send(text) : target.emit('said', text));
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
      const message = protocol === 'raw' ? String(await client.message()) : (await client.event()).data;
      if (message === 'end') return messages;
      messages.push(message);
    }
  };
  return { server, say, a: conns[0], b: conns[1], got: () => Promise.all(clients.map(got)) };
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

for (const [name, protocol, throws] of [
  ['a detached Buffer', 'raw', ({ a }) => a.send(detached())],
  ['a large detached Buffer', 'raw', ({ a }) => a.send(detached(100_000))],
  ['a detached ArrayBuffer', 'raw', ({ a }) => a.send(detached().buffer)],
  ['a detached DataView', 'raw', ({ a }) => {
    const view = new DataView(new ArrayBuffer(8));
    structuredClone(view.buffer, { transfer: [view.buffer] });
    a.send(view);
  }],
  ['a view that is out of bounds', 'raw', ({ a }) => a.send(outOfBounds())],
  ['a detached Buffer for a room', 'raw', ({ server }) => server.toAll().send(detached())],
  ['a proxy of a Buffer', 'raw', ({ a }) => a.send(new Proxy(Buffer.from('x'), {}))],
  ['an object that pretends', 'raw', ({ a }) => a.send(Object.create(Uint8Array.prototype))],
  ['nobody to leave out', 'raw', ({ server }) => server.toAll().except(null).send('for a')],
  ['a text of almost 2^29 characters', 'raw', ({ a }) => a.send('x'.repeat(2 ** 29 - 30))],
  ['such a text as an event', 'json', ({ a }) => a.emit('x'.repeat(2 ** 29 - 30), 1)],
  ['such a text as data', 'json', ({ server }) => server.toAll().emit('x', 'x'.repeat(2 ** 22))],
  ['an id that is a symbol', 'json', ({ a }) => a.reply({ id: Symbol('x') }, 'x', 1)],
  ['an id that is a function', 'json', ({ a }) => a.reply({ id: () => {} }, 'x', 1)],
  ['an id that is an object', 'json', ({ a }) => a.reply({ id: {} }, 'x', 1)],
  ['an id that is no whole number', 'json', ({ a }) => a.reply({ id: 1.5 }, 'x', 1)],
  ['data that contains itself', 'json', ({ a }) => {
    const data = {};
    data.data = data;
    a.emit('x', data);
  }],
  ['a bigint', 'json', ({ a }) => a.emit('x', 5n)],
  ['data whose getter throws', 'json', ({ a }) => a.emit('x', { get data() { throw new Error('as asked'); } })],
  ['data whose toJSON throws a number', 'json', ({ a }) => a.emit('x', { toJSON() { throw 5; } })],
  ['an empty event', 'json', ({ a }) => a.emit('', 1)],
  ['an event with half a surrogate pair', 'json', ({ a }) => a.emit('x\ud800', 1)],
  ['what is too large for any peer', 'raw', ({ a }) => a.send(Buffer.alloc(2_000_000))],
]) {
  test(`${name} is refused, and sends nothing`, async (t) => {
    const all = await two(t, protocol);
    const { server, say, a, b, got } = all;
    for (let round = 0; round < 2; round += 1) {
      assert.throws(() => throws(all), { name: 'TypeError', code: 'invalid_argument' });
      say(b, SECRET);
      if (protocol === 'raw') b.send(Buffer.from('bytes'));
      else b.reply({ id: 7 }, 'replied', 'bytes');
      assert.throws(() => throws(all), { code: 'invalid_argument' });
      say(a, 'mine');
      say(b, `${SECRET} too`);
    }
    say(server.toAll(), 'end');
    const round = [SECRET, 'bytes', `${SECRET} too`];
    assert.deepEqual(await got(), [['mine', 'mine'], [...round, ...round]]);
  });
}

for (const [name, protocol, call, message] of [
  ['emit', 'raw', ({ a }) => a.emit('x', 1), /`emit` and `reply` are of protocol: "json"; here it is `send`/],
  ['reply', 'raw', ({ a }) => a.reply({ id: 1 }, 'x', 1), /here it is `send`/],
  ['emit to everybody', 'raw', ({ server }) => server.toAll().emit('x', 1), /here it is `send`/],
  ['emit to a room', 'raw', ({ server, a }) => server.to('r').except(a).emit('x', 1), /here it is `send`/],
  ['send', 'json', ({ a }) => a.send('x'), /`send` is of protocol: "raw"; here it is `emit` or `reply`/],
  ['send of bytes', 'json', ({ a }) => a.send(Buffer.from('x')), /here it is `emit`/],
  ['send to everybody', 'json', ({ server }) => server.toAll().send('x'), /here it is `emit`/],
  ['send of bytes to a room', 'json', ({ server, a }) => server.to('r').except(a).send(Buffer.from('x')), /here it is `emit`/],
]) {
  test(`${name} is refused by the protocol ${protocol}, and sends nothing; also when nobody is there`, async (t) => {
    const all = await two(t, protocol);
    assert.throws(() => call(all), { name: 'TypeError', code: 'invalid_argument', message });
    all.say(all.server.toAll(), 'end');
    assert.deepEqual(await all.got(), [[], []]);
    all.a.close();
    assert.throws(() => call(all), { code: 'invalid_argument', message });
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

for (const protocol of ['raw', 'json']) {
  test(`what fits into maxOutboxBytes is measured in bytes, with all that is around it: ${protocol}`, async (t) => {
    const maxOutboxBytes = 1 << 16;
    const most = maxOutboxBytes - 4; // the header of the frame
    const server = await start(t, { ...PROTOCOLS[protocol], maxOutboxBytes });
    const errors = [];
    server.on('error', (error) => errors.push(error.message));
    const opened = once(server, 'open');
    const client = await Client.connect(server.address);
    const [conn] = await opened;
    const around = Buffer.byteLength('{"event":"€\\"\\u0001","data":"","status":"ok"}');
    const event = '€"\u0001';
    const calls = {
      raw: [
        [(text) => conn.send(text), 0],
        [(text) => conn.send(Buffer.from(text)), 0],
        [(text) => server.toAll().send(text), 0],
        [(text) => server.toAll().send(Buffer.from(text)), 0],
      ],
      json: [
        [(text) => conn.emit(event, text), around],
        [(text) => conn.reply({ id: '"' }, event, text), around + ',"id":"\\""'.length],
        [(text) => server.toAll().emit(event, text), around],
      ],
    };
    for (const [call, other] of calls[protocol]) {
      for (const text of ['x'.repeat(most - other + 1), 'é'.repeat((most - other + 2) >> 1)]) {
        assert.throws(() => call(text), { code: 'invalid_argument', message: /maxOutboxBytes \(65536\)/ });
      }
      call('x'.repeat(most - other));
      assert.equal(Buffer.byteLength(await client.message()), most);
    }
    assert.deepEqual([conn.isOpen, errors], [true, []]);
  });
}

test('an error of one command leaves those around it', async (t) => {
  const { server, say, a, b, got } = await two(t, 'json');
  const data = {
    toJSON() {
      // In the middle of one command another is said.
      say(b, 'between');
      return 1;
    },
  };
  a.emit('outer', data);
  a.reply({ get id() { say(b, 'again'); return 7; } }, 'reply', data);
  say(server.toAll(), 'end');
  assert.deepEqual(await got(), [[1, 1], ['between', 'again', 'between']]);
});

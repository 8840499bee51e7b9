// `compression`: who is told, what goes plain, and what is counted. The client is ws, which inflates by itself.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { Server } from '../index.mjs';
import { makeConnection } from '../testing/index.mjs';
import { Client, policy, start } from './harness.mjs';

const LONG = 'the same words again and again, '.repeat(100);
const deflating = { perMessageDeflate: true };

/** A client, the connection that the server has of it, and `bytes()`: those that have come since it was last asked. */
async function joined(t, server, options) {
  const opened = once(server, 'open');
  const client = await Client.connect(server.address, options);
  const [conn] = await opened;
  const { socket } = client;
  let before = socket._socket.bytesRead;
  const bytes = () => {
    const since = socket._socket.bytesRead - before;
    before = socket._socket.bytesRead;
    return since;
  };
  return { client, conn, bytes };
}

/** What was said, and whether it came in fewer bytes than it has. */
async function heard({ client, bytes }) {
  const message = await client.message();
  return [message, bytes() < Buffer.byteLength(message) / 2];
}

test('who has agreed to it is told, and JSON and raw are both compressed', async (t) => {
  const server = await start(t, { protocol: 'raw', compression: {} });
  const [one, other] = [await joined(t, server, deflating), await joined(t, server)];
  assert.deepEqual([one.conn.compressed, other.conn.compressed], [true, false]);
  for (const data of [LONG, Buffer.from(LONG)]) {
    for (const { conn } of [one, other]) conn.send(data);
    assert.deepEqual([await heard(one), await heard(other)], [[data, true], [data, false]]);
  }
  const off = await start(t, { protocol: 'raw' });
  assert.equal((await joined(t, off, deflating)).conn.compressed, false);
  assert.deepEqual([makeConnection().conn.compressed, makeConnection({ compressed: true }).conn.compressed], [false, true]);
});

test('compress: false leaves a message plain, in every way to send one', async (t) => {
  const server = await start(t, { protocol: 'json', events: { a: {} }, compression: {} });
  const one = await joined(t, server, deflating);
  const { conn } = one;
  conn.join('room');
  const data = { text: LONG };
  const asked = { id: 7 };
  const ways = {
    emit: (options) => conn.emit('a', data, options),
    reply: (options) => conn.reply(asked, 'a', data, options),
    'reply without an id': (options) => conn.reply(undefined, 'a', data, options),
    replyError: (options) => conn.replyError(asked, 'a', data, options),
    call: (options) => void conn.call('a', data, { timeoutMs: 60_000, ...options }),
    'room.emit': (options) => server.to('room').emit('a', data, options),
    'all.emit': (options) => server.toAll().emit('a', data, options),
  };
  for (const [name, say] of Object.entries(ways)) {
    for (const [options, isCompressed] of [[undefined, true], [{ compress: false }, false], [{ compress: true }, true], [{ compress: undefined }, true], [{}, true]]) {
      say(options);
      const [message, isShort] = await heard(one);
      assert.equal(JSON.parse(message).data.text, LONG, name);
      assert.equal(isShort, isCompressed, `${name} ${JSON.stringify(options)}`);
    }
  }
});

test('compress: false of raw messages, large ones and those to many among them', async (t) => {
  const server = await start(t, { protocol: 'raw', compression: { thresholdBytes: 100 } });
  const one = await joined(t, server, deflating);
  const large = Buffer.alloc(200_000, 'ab');
  for (const data of [LONG, Buffer.from(LONG), large]) {
    for (const say of [(options) => one.conn.send(data, options), (options) => server.toAll().send(data, options)]) {
      for (const compress of [false, true]) {
        say({ compress });
        assert.deepEqual(await heard(one), [data, compress]);
      }
    }
  }
  // In one tick, in order.
  for (let at = 0; at < 100; at += 1) one.conn.send(`${at} ${LONG}`, { compress: at % 3 === 0 });
  for (let at = 0; at < 100; at += 1) assert.equal(await one.client.message(), `${at} ${LONG}`);
});

test('what is compressed is counted', async (t) => {
  const server = await start(t, { protocol: 'raw', compression: {} });
  const { client, conn } = await joined(t, server, { perMessageDeflate: { threshold: 0 } });
  const came = once(server, 'message');
  client.send(LONG);
  assert.equal((await came)[1], LONG);
  conn.send(LONG);
  conn.send(LONG, { compress: false });
  for (const _ of [1, 2]) await client.message();
  const { messagesCompressedIn, messagesCompressedOut, messagesLeftPlain, compressionSavedBytes, bytesInflated } = server.stats();
  assert.deepEqual([messagesCompressedIn, messagesCompressedOut, messagesLeftPlain, bytesInflated], [1, 1, 0, LONG.length]);
  assert.ok(compressionSavedBytes > LONG.length / 2 && compressionSavedBytes < LONG.length);
  const metric = (name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(server.metrics())?.[1]);
  assert.deepEqual(['in', 'out'].map((way) => metric(`wsguard_messages_${way === 'in' ? 'received' : 'sent'}_compressed_total`)), [1, 1]);
});

test('an attached server agrees to it as well', async (t) => {
  const http = createServer();
  const server = new Server(policy({ listen: undefined, protocol: 'raw', compression: {} }));
  t.after(() => server.stop());
  t.after(() => http.close());
  server.attach(http);
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const opened = once(server, 'open');
  const client = await Client.connect(`127.0.0.1:${http.address().port}`, deflating);
  const [conn] = await opened;
  assert.deepEqual([conn.compressed, client.socket.extensions], [true, 'permessage-deflate']);
  conn.send(LONG);
  assert.equal(await client.message(), LONG);
});

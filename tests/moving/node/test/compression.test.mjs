// permessage-deflate as ws documents and tests it, the server's half of it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { deflateRawSync } from 'node:zlib';
import { Server } from 'socket.io';
import { io as dial } from 'socket.io-client';
import { connect } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded } from '../lib/engines.mjs';
import { WAYS, raw } from '../lib/ways.mjs';

const policy = { origins: [ORIGIN], auth: 'none', rateLimit: null, compression: { thresholdBytes: 0 } };
const LONG = 'again and again, '.repeat(1_000);
const deflating = { threshold: 0 };

/** A server that compresses, and how to reach it. */
async function serve(t, engine, options = { perMessageDeflate: deflating }, way = 'port') {
  const { wss, dial: { url, ...dialled } } = await WAYS[way](t, engine.load().WebSocketServer, { policy, ...options });
  const join = async (more = { perMessageDeflate: deflating }) => {
    const served = once(wss, 'connection');
    const client = await connect(t, url, { ...dialled, ...more });
    const [ours, request] = await served;
    ours.on('error', () => {});
    return { client, ours, request };
  };
  return { wss, join, url, dialled };
}

/** Bytes that a client gets while `act` runs. */
async function bytesDuring(client, act) {
  const before = client._socket.bytesRead;
  await act();
  return client._socket.bytesRead - before;
}

for (const way of ['port', 'server', 'noServer', 'Unix socket', 'https']) {
  onEach(`${way}: text, bytes, views and buffers go there and back, compressed`, async (t, engine) => {
    const { join } = await serve(t, engine, undefined, way);
    const { client, ours, request } = await join();
    assert.match(request.headers['sec-websocket-extensions'], /^permessage-deflate/);
    assert.deepEqual([ours.extensions, client.extensions], ['permessage-deflate', 'permessage-deflate']);
    ours.on('message', (data, isBinary) => ours.send(data, { binary: isBinary, compress: true }));
    const array = Float32Array.from({ length: 500 }, (_, n) => n % 5);
    const bytes = Buffer.from(array.buffer);
    const size = await bytesDuring(client, async () => {
      for (const [said, expected] of [['hi', 'hi'], [LONG, LONG], [array, bytes], [array.buffer, bytes], [new Uint8Array(0), Buffer.alloc(0)]]) {
        client.send(said, { compress: true });
        assert.deepEqual(await client.next(), expected);
      }
      for (const said of [array, array.buffer]) {
        ours.send(said);
        assert.deepEqual(await client.next(), bytes);
      }
    });
    assert.ok(size < LONG.length / 2, `${size}`);
  });
}

onEach('the names of the negotiated extensions are exposed, and none are where a side has none', async (t, engine) => {
  const { join } = await serve(t, engine);
  for (const [perMessageDeflate, name] of [[true, 'permessage-deflate'], [false, '']]) {
    const { client, ours } = await join({ perMessageDeflate });
    assert.deepEqual([client.extensions, ours.extensions], [name, name]);
  }
  const off = await serve(t, engine, { perMessageDeflate: false });
  const { client, ours } = await off.join();
  assert.deepEqual([client.extensions, ours.extensions], ['', '']);
  ours.send(LONG, { compress: true });
  assert.equal(await client.next(), LONG, '`compress` is ignored then');
});

onEach('messages under the threshold, and those with compress: false, go plain', async (t, engine) => {
  const { join } = await serve(t, engine, { perMessageDeflate: { threshold: 4_000, serverNoContextTakeover: true } });
  const { client, ours } = await join();
  const isShort = async (text, options) => {
    const size = await bytesDuring(client, async () => {
      ours.send(text, options);
      assert.equal(await client.next(), text);
    });
    return size < text.length / 2;
  };
  assert.equal(await isShort('x'.repeat(3_999)), false);
  assert.equal(await isShort('x'.repeat(4_000)), true);
  assert.equal(await isShort('x'.repeat(4_000), { compress: false }), false);
  assert.equal(await isShort('x'.repeat(4_000), { compress: true }), true);
});

onEach('what a client sent is heard, if it closes or breaks behind it', async (t, engine) => {
  const { join } = await serve(t, engine);
  for (const [end, code] of [[(client) => client.close(1000), 1000], [(client) => client._socket.end(), 1006]]) {
    const { client, ours } = await join();
    const messages = [];
    ours.on('message', (data) => messages.push(String(data)));
    const closed = once(ours, 'close');
    for (const text of ['foo', 'bar', 'baz']) client.send(text);
    await new Promise((resolve) => client.send('qux', resolve));
    end(client);
    assert.equal((await closed)[0], code);
    assert.deepEqual(messages, ['foo', 'bar', 'baz', 'qux']);
  }
});

onEach('what a server sent is heard, if it closes behind it', async (t, engine) => {
  const { join } = await serve(t, engine);
  const { client, ours } = await join();
  for (const text of ['foo', 'bar', LONG, 'qux']) ours.send(text);
  ours.close(1000);
  assert.deepEqual(await client.ended, { code: 1000, reason: '' });
  for (const text of ['foo', 'bar', LONG, 'qux']) assert.equal(await client.next(), text);
});

onEach('a server may close and terminate while compressed messages come', async (t, engine) => {
  const { join } = await serve(t, engine);
  for (const [end, code] of [[(ours) => ours.close(1000), 1000], [(ours) => ours.terminate(), 1006]]) {
    const { client, ours } = await join();
    let heard = 0;
    ours.on('message', () => {
      heard += 1;
      if (heard === 1) end(ours);
    });
    const closed = once(ours, 'close');
    // Four empty messages at once.
    client._socket.write(Buffer.from('c1810000000000'.repeat(4), 'hex'));
    assert.equal((await closed)[0], code);
    assert.ok(heard >= 1);
  }
});

onEach('a server that terminates tells the callbacks of send', async (t, engine) => {
  const { join } = await serve(t, engine);
  const { ours } = await join();
  const told = [1, 2].map(() => new Promise((resolve) => ours.send(LONG, (error) => resolve(error))));
  ours.terminate();
  // Whether it was written before is a matter of time; that every one is called is not.
  assert.equal((await Promise.all(told)).length, 2);
});

/** A frame that is masked with zeros. */
function frame(first, payload) {
  const length = payload.length < 126 ? [0x80 | payload.length] : [0xfe, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([first, ...length, 0, 0, 0, 0]), payload]);
}

const pressed = (data) => deflateRawSync(data, { finishFlush: 2 }).subarray(0, -4);
const halves = (data) => [data.subarray(0, data.length >> 1), data.subarray(data.length >> 1)];
const [first, second] = halves(pressed(LONG));
const BYTES = {
  'a compressed message': frame(0xc1, pressed(LONG)),
  'one in fragments, a ping between them': Buffer.concat([frame(0x41, first), frame(0x89, Buffer.from('p')), frame(0x80, second)]),
  'a plain one': frame(0x81, Buffer.from('plain')),
  'an empty one': frame(0xc1, Buffer.from([0])),
  'one of stored blocks': frame(0xc2, deflateRawSync(LONG, { level: 0, finishFlush: 2 }).subarray(0, -4)),
  'one with a final block': frame(0xc1, deflateRawSync(LONG)),
  'corrupt data': frame(0xc1, Buffer.from([0xff, 0xff, 0xff])),
  'a distance too far back': frame(0xc1, Buffer.from([0x4b, 0x04, 0x61, 0x00])),
  'inflated over maxPayload': frame(0xc2, pressed(Buffer.alloc(200_000))),
  'inflated over maxPayload, in fragments': Buffer.concat([frame(0x42, pressed(Buffer.alloc(200_000)).subarray(0, 50)), frame(0x80, pressed(Buffer.alloc(200_000)).subarray(50))]),
  'no UTF-8 once inflated': frame(0xc1, pressed(Buffer.from([0xce, 0xba, 0xff]))),
  'RSV1 on a continuation': Buffer.concat([frame(0x41, first), frame(0xc0, second)]),
  'RSV1 on a ping': frame(0xc9, Buffer.alloc(0)),
  'RSV1 on a close frame': frame(0xc8, Buffer.from([3, 232])),
  'RSV2': frame(0xe1, pressed('hi')),
};
const HEAD = ['GET / HTTP/1.1', 'Host: app.test', `Origin: ${ORIGIN}`, 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
HEAD.push('Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover', '', '');

/** What the application hears of these bytes and a close frame, and the code of the close frame that the peer gets. */
async function provoke(t, way, WebSocketServer, bytes) {
  const options = { policy: { ...policy, maxMessageBytes: 100_000 }, maxPayload: 100_000, perMessageDeflate: { clientNoContextTakeover: true, serverNoContextTakeover: true } };
  const { wss, dial: dialled } = await WAYS[way](t, WebSocketServer, options);
  const heard = [];
  const closed = new Promise((resolve) => {
    wss.on('connection', (ours) => {
      heard.push(ours.extensions);
      ours.on('message', (data, isBinary) => heard.push(['message', isBinary, data.length, String(data.subarray(0, 20))]));
      ours.on('ping', (data) => heard.push(['ping', String(data)]));
      ours.on('error', ({ name, code, errno }) => heard.push(['error', name, code, errno]));
      ours.on('close', (code, reason) => resolve(heard.push(['close', code, String(reason)])));
    });
  });
  const stream = raw(t, dialled);
  stream.on('error', () => {}).on('end', () => stream.end());
  stream.write(Buffer.concat([Buffer.from(HEAD.join('\r\n')), frame(0xc1, pressed('fine')), bytes, frame(0x88, Buffer.from([3, 232]))]));
  let received = Buffer.alloc(0);
  stream.on('data', (chunk) => (received = Buffer.concat([received, chunk])));
  await Promise.all([closed, new Promise((resolve) => stream.on('end', resolve).on('close', resolve))]);
  const at = received.indexOf(0x88, received.indexOf('\r\n\r\n') + 4);
  return { heard, code: at < 0 ? undefined : received.readUInt16BE(at + 2) };
}

for (const way of ['port', 'server', 'in-memory pair']) {
  for (const [name, bytes] of Object.entries(BYTES)) {
    onGuarded(`${way}: ${name}: heard as with ws`, async (t, engine) => {
      const { WebSocketServer } = await import('ws');
      assert.deepEqual(await provoke(t, way, engine.load().WebSocketServer, bytes), await provoke(t, way, WebSocketServer, bytes));
    });
  }
}

onEach('Socket.IO with perMessageDeflate', async (t, engine) => {
  const { guard } = engine.load();
  const http = createServer();
  const io = new Server(http, { wsEngine: guard({ ...policy, compression: {} }), transports: ['websocket'], perMessageDeflate: true });
  io.on('connection', (socket) => socket.on('say', (text, answer) => {
    io.emit('said', text);
    socket.emit('said', text);
    answer('sent');
  }));
  t.after(() => io.close());
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const socket = dial(`http://127.0.0.1:${http.address().port}`, { transports: ['websocket'], extraHeaders: { origin: ORIGIN }, forceNew: true, perMessageDeflate: true });
  t.after(() => socket.close());
  await once(socket, 'connect');
  const { ws } = socket.io.engine.transport;
  assert.equal(ws.extensions, 'permessage-deflate');
  const heard = [];
  socket.on('said', (text) => heard.push(text));
  const before = ws._socket.bytesRead;
  assert.equal(await socket.emitWithAck('say', LONG), 'sent');
  assert.deepEqual(heard, [LONG, LONG]);
  const size = ws._socket.bytesRead - before;
  assert.ok(size < LONG.length / 2, `both are compressed: ${size}`);
});

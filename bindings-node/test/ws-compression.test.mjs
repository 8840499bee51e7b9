// `wsguard/ws`: permessage-deflate, what `perMessageDeflate` leaves of the policy, and how broken data ends a connection.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { on, once } from 'node:events';
import http from 'node:http';
import { test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { WebSocketServer } from '../ws/index.mjs';
import { KEY, POLICY, WebSocketClient, knock, pair, serve, share, urlOf } from './ws-harness.mjs';

const LONG = 'the same words again and again, '.repeat(200);
const OFFER = 'permessage-deflate; client_max_window_bits';

/** How many bytes the client gets for a message of `length` bytes, and what it was. */
async function bytesFor({ ws, client }, data, options) {
  const before = client._socket.bytesRead;
  ws.send(data, options);
  const [message] = await once(client, 'message');
  assert.ok(message.equals(Buffer.from(data)));
  return client._socket.bytesRead - before;
}

const isCompressed = async (of, data, options) => (await bytesFor(of, data, options)) < Buffer.byteLength(data) / 2;

for (const [where, start] of Object.entries({
  port: (t, options, policy) => serve(t, options, policy),
  server: async (t, options, policy) => (await share(t, options, { policy })).wss,
})) {
  test(`${where}: perMessageDeflate and the policy`, async (t) => {
    const agreed = async (perMessageDeflate, compression) => {
      const wss = await start(t, perMessageDeflate === undefined ? {} : { perMessageDeflate }, { compression });
      const { ws, client, request } = await pair(t, wss);
      assert.equal(request.headers['sec-websocket-extensions'], OFFER);
      assert.equal(ws.extensions, client.extensions);
      return ws.extensions;
    };
    for (const on of [undefined, true, {}, { threshold: 0 }]) assert.equal(await agreed(on, {}), 'permessage-deflate');
    for (const off of [false, null]) assert.equal(await agreed(off, {}), '');
    for (const any of [undefined, false]) assert.equal(await agreed(any, null), '');
  });
}

test('noServer', async (t) => {
  const wss = new WebSocketServer({ noServer: true, policy: { ...POLICY, compression: {} } });
  const server = http.createServer().on('upgrade', (request, socket, head) => {
    wss.handleUpgrade(request, socket, head, (ws) => ws.send(LONG));
  });
  t.after(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new WebSocketClient(`ws://127.0.0.1:${server.address().port}`);
  t.after(() => client.terminate());
  const [message] = await once(client, 'message');
  assert.deepEqual([String(message), client.extensions], [LONG, 'permessage-deflate']);
  assert.ok(client._socket.bytesRead < LONG.length / 2);
});

test('the threshold is the larger one, the level the lower one', async (t) => {
  const text = (length) => 'ab'.repeat(length / 2);
  const threshold = async (options, compression) => {
    const of = await pair(t, await serve(t, { perMessageDeflate: options }, { compression }));
    const found = [];
    for (const length of [500, 1500, 2500]) found.push(await isCompressed(of, text(length)));
    return found.filter((is) => !is).length;
  };
  assert.equal(await threshold({}, {}), 1);
  assert.equal(await threshold({ threshold: 0 }, {}), 1);
  assert.equal(await threshold({ threshold: 2000 }, {}), 2);
  assert.equal(await threshold({ threshold: '2000' }, {}), 2);
  assert.equal(await threshold({ threshold: 2000 }, { thresholdBytes: 3000 }), 3);
  assert.equal(await threshold({ threshold: 2000 }, { threshold_bytes: 0 }), 2);
  assert.equal(await threshold({}, { thresholdBytes: 0 }), 0);
  assert.equal(await threshold({ threshold: Infinity }, {}), 3);
  assert.equal(await threshold({ threshold: NaN }, {}), 3);
  assert.equal(await threshold({ zlibDeflateOptions: { level: 0 } }, { level: 9 }), 3);

  const words = Array.from({ length: 4000 }, (_, at) => `word${(at * 7919) % 613} `).join('');
  const length = async (options, level) => bytesFor(await pair(t, await serve(t, { perMessageDeflate: options }, { compression: { level } })), words);
  const [one, nine] = [await length({}, 1), await length({}, 9)];
  assert.ok(nine < one);
  for (const [level, stated, expected] of [[1, 9, one], [1.5, 9, one], [9, 1, one], [-1, 9, nine], [undefined, 9, nine]]) {
    assert.equal(await length({ zlibDeflateOptions: { level } }, stated), expected, `${level} of ${stated}`);
  }
});

test('routes keep what they state, and are tightened as well', async (t) => {
  const routes = { '/on': { compression: { thresholdBytes: 0 } }, '/off': { compression: null }, '/as-above': {} };
  const found = async (perMessageDeflate, compression) => {
    const wss = await serve(t, { perMessageDeflate }, { compression, routes });
    const all = [];
    for (const path of Object.keys(routes)) {
      const of = await pair(t, wss, { path });
      all.push(of.ws.extensions === '' ? 'plain' : await isCompressed(of, 'ab'.repeat(300)));
    }
    return all;
  };
  assert.deepEqual(await found(true, {}), [true, 'plain', false]);
  assert.deepEqual(await found({ threshold: 1000 }, {}), [false, 'plain', false]);
  assert.deepEqual(await found(true, null), [true, 'plain', 'plain']);
  assert.deepEqual(await found(false, {}), ['plain', 'plain', 'plain']);
  assert.deepEqual(routes['/on'], { compression: { thresholdBytes: 0 } }, 'what was given stays as it is');
});

test('what zlib refuses is refused in its words', () => {
  const made = (perMessageDeflate, compression = {}) => new WebSocketServer({ noServer: true, perMessageDeflate, policy: { ...POLICY, compression } });
  for (const level of [-2, 10]) {
    assert.throws(() => made({ zlibDeflateOptions: { level } }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /options\.level/ });
  }
  for (const serverMaxWindowBits of [7, 16]) assert.throws(() => made({ serverMaxWindowBits }), { name: 'RangeError', message: /options\.windowBits/ });
  assert.throws(() => made({ zlibDeflateOptions: { level: 'x' } }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  for (const fine of [true, {}, { serverMaxWindowBits: 9 }, { serverMaxWindowBits: true, clientMaxWindowBits: 10, concurrencyLimit: 1 }, { serverNoContextTakeover: false }]) made(fine);
  assert.throws(() => made(true, { level: 10 }), { option: 'compression.level' });
});

test('a policy that does not compress is told of, once', () => {
  const script = `
    process.on('warning', ({ code, message }) => console.log(code, message));
    const { WebSocketServer, guard } = require(${JSON.stringify(new URL('../ws/index.js', import.meta.url).pathname)});
    const make = (perMessageDeflate, policy) => new WebSocketServer({ noServer: true, perMessageDeflate, policy: { origins: ['https://a.example'], auth: 'none', ...policy } });
    make(true, { compression: {} });
    make(true, { routes: { '/a': { compression: {} } } });
    make(false, {});
    make(undefined, {});
    make(true, {});
    make({ threshold: 0 }, { compression: null });`;
  const told = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  assert.equal(told, 'WSGUARD_UNKEPT perMessageDeflate: nothing is compressed, as the policy does not say so: compression: {}\n');
});

test('compress: false, blobs and fragments', async (t) => {
  const of = await pair(t, await serve(t, {}, { compression: {} }));
  assert.equal(await isCompressed(of, LONG), true);
  assert.equal(await isCompressed(of, LONG, { compress: false }), false);
  assert.equal(await isCompressed(of, Buffer.from(LONG), { compress: false }), false);
  assert.equal(await isCompressed(of, Buffer.from(LONG), { compress: true, binary: false }), true);
  const { ws, client } = of;
  for (const [compress, isShort] of [[true, true], [false, false]]) {
    const before = client._socket.bytesRead;
    ws.send(new Blob([LONG]), { compress });
    assert.equal(String((await once(client, 'message'))[0]), LONG);
    assert.equal(client._socket.bytesRead - before < LONG.length / 2, isShort, `a Blob, ${compress}`);
  }
  // What waits behind a Blob keeps its options.
  const before = client._socket.bytesRead;
  const messages = on(client, 'message');
  ws.send(new Blob(['x']));
  ws.send(LONG, { compress: false });
  for (const _ of [1, 2]) await messages.next();
  assert.ok(client._socket.bytesRead - before > LONG.length);
  ws.send(LONG, { fin: false });
  ws.send(LONG, { fin: true });
  assert.equal(String((await once(client, 'message'))[0]), LONG + LONG);
});

test('offers that cannot be kept go on uncompressed, and refuse nobody', async (t) => {
  const wss = await serve(t, {}, { compression: {} });
  const answer = async (offer) => {
    const request = http.request({ port: wss.address().port, host: '127.0.0.1', headers: { Connection: 'Upgrade', Upgrade: 'websocket', ...KEY, 'Sec-WebSocket-Extensions': offer } });
    request.end();
    const [response, socket] = await once(request, 'upgrade');
    socket.destroy();
    return response.headers['sec-websocket-extensions'];
  };
  const agreed = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
  assert.equal(await answer('permessage-deflate'), agreed);
  assert.equal(await answer('permessage-deflate; server_max_window_bits=10'), `${agreed}; server_max_window_bits=10`);
  assert.equal(await answer('permessage-deflate; server_max_window_bits=8, permessage-deflate'), agreed);
  for (const offer of ['permessage-deflate; server_max_window_bits=8', 'permessage-deflate; nonsense', 'permessage-deflate; server_max_window_bits', '"']) {
    assert.equal(await answer(offer), undefined, offer);
  }
});

test('a listener of headers cannot answer extensions of its own', async (t) => {
  const wss = await serve(t, {}, { compression: {} });
  wss.on('headers', (headers) => {
    assert.ok(!headers.some((line) => /extensions/i.test(line)));
    headers.push('X-Mine: 1');
  });
  const { status, headers } = await knock(wss.address().port, { ...KEY, 'Sec-WebSocket-Version': 7 });
  assert.deepEqual([status, headers['sec-websocket-extensions']], [400, undefined]);
  const client = new WebSocketClient(urlOf(wss));
  t.after(() => client.terminate());
  const [response] = await once(client, 'upgrade');
  assert.equal(response.headers['x-mine'], '1');
});

/** A frame of a client that is masked with zeros. */
function frame(first, payload) {
  const length = payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([first, ...length, 0, 0, 0, 0]), payload]);
}

const whole = (data) => deflateRawSync(data, { finishFlush: 2 }).subarray(0, -4);

for (const [name, [bytes, error, code]] of Object.entries({
  'data that is corrupt': [frame(0xc1, Buffer.from([0xff, 0xff, 0xff, 0xff])), { name: 'Error', code: 'Z_DATA_ERROR', errno: -3, message: 'invalid compressed data' }, 1007],
  'data that ends inside a block': [frame(0xc1, whole(LONG).subarray(0, 20)), { code: 'Z_DATA_ERROR', errno: -3 }, 1007],
  'a message over maxPayload once it is inflated': [frame(0xc2, whole(Buffer.alloc(20_000))), { name: 'RangeError', code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', message: 'Max payload size exceeded' }, 1009],
  'text that is no UTF-8 once it is inflated': [frame(0xc1, whole(Buffer.from([0xce, 0xba, 0xff]))), { name: 'Error', code: 'WS_ERR_INVALID_UTF8' }, 1007],
  'RSV1 on a continuation': [Buffer.concat([frame(0x41, Buffer.from([0xf2])), frame(0xc0, Buffer.from([0x48]))]), { name: 'RangeError', code: 'WS_ERR_UNEXPECTED_RSV_1' }, 1002],
  'RSV1 on a ping': [frame(0xc9, Buffer.alloc(0)), { name: 'RangeError', code: 'WS_ERR_UNEXPECTED_RSV_1' }, 1002],
})) {
  test(`broken: ${name}`, async (t) => {
    const { ws, client } = await pair(t, await serve(t, { maxPayload: 10_000 }, { compression: {} }));
    const [failed, closed, told] = [once(ws, 'error'), once(ws, 'close').catch((thrown) => thrown), once(client, 'close')];
    client._socket.write(Buffer.concat([frame(0xc1, whole(LONG)), bytes]));
    const [message] = await once(ws, 'message');
    assert.equal(String(message), LONG);
    const [thrown] = await failed;
    for (const [field, value] of Object.entries(error)) assert.equal(thrown[field], value, field);
    await closed;
    assert.equal((await told)[0], code);
  });
}

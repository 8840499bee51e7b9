// `wsguard/ws`, a connection: messages, callbacks, pings, fragments, its end.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import WebSocket, { createWebSocketStream } from '../ws/index.mjs';
import { KEY, WebSocketClient, pair, serve, share, urlOf } from './ws-harness.mjs';

const raw = (ws, bytes) => ws._socket.write(Buffer.from(bytes));

test('constants and attributes are where ws has them', async (t) => {
  for (const [number, name] of ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].entries()) {
    const constant = { configurable: false, enumerable: true, value: number, writable: false };
    assert.deepEqual(Object.getOwnPropertyDescriptor(WebSocket, name), constant);
    assert.deepEqual(Object.getOwnPropertyDescriptor(WebSocket.prototype, name), constant);
  }
  for (const name of ['bufferedAmount', 'extensions', 'isPaused', 'protocol', 'readyState', 'url']) {
    const { configurable, enumerable, get, set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, name);
    assert.deepEqual([configurable, enumerable, typeof get, set], [true, true, 'function', undefined], name);
  }
  const wss = await serve(t);
  const { ws } = await pair(t, wss);
  assert.deepEqual([ws.readyState, ws.binaryType, ws.protocol, ws.extensions, ws.bufferedAmount, ws.isPaused], [1, 'nodebuffer', '', '', 0, false]);
  ws.binaryType = 'foo';
  assert.equal(ws.binaryType, 'nodebuffer');
  for (const type of ['arraybuffer', 'fragments', 'blob', 'nodebuffer']) {
    ws.binaryType = type;
    assert.equal(ws.binaryType, type);
  }
});

test('messages by binaryType; texts are Buffers', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const sent = Buffer.from([1, 2, 3]);
  const next = async () => {
    const got = once(ws, 'message');
    client.send(sent);
    return got;
  };
  assert.deepEqual(await next(), [sent, true]);
  ws.binaryType = 'arraybuffer';
  const [array] = await next();
  assert.ok(array instanceof ArrayBuffer);
  assert.deepEqual(Buffer.from(array), sent);
  ws.binaryType = 'fragments';
  assert.deepEqual((await next())[0], [sent]);
  ws.binaryType = 'blob';
  const [blob] = await next();
  assert.ok(blob instanceof Blob);
  assert.deepEqual(Buffer.from(await blob.arrayBuffer()), sent);
  const text = once(ws, 'message');
  client.send('grüße');
  assert.deepEqual(await text, [Buffer.from('grüße'), false]);
});

test('send takes what ws takes', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const floats = new Float32Array([1, 2, 3]);
  const cases = [
    ['text', 'text', false],
    [5, '5', false],
    ['', '', false],
    [undefined, '', true],
    [null, '', true],
    [Buffer.from('b'), 'b', true],
    [floats.buffer, Buffer.from(floats.buffer), true],
    [floats, Buffer.from(floats.buffer), true],
    [new DataView(floats.buffer, 4), Buffer.from(floats.buffer, 4), true],
    [[1, 2], Buffer.from([1, 2]), true],
    [new Blob(['blob']), 'blob', true],
    ['a\u{1f600}\ud800', 'a\u{1f600}\ufffd', false],
  ];
  for (const [data, expected, isBinary] of cases) {
    const got = once(client, 'message');
    ws.send(data);
    assert.deepEqual(await got, [Buffer.from(expected), isBinary]);
  }
  // The options are spread over those of ws: an undefined `binary` is no binary.
  const texts = [
    ['as binary', { binary: true }, true],
    ['as binary', { binary: 1 }, true],
    ['as text', { binary: undefined }, false],
    [Buffer.from('as text'), { binary: false }, false],
    [Buffer.from('as text'), { binary: undefined }, false],
    [Buffer.from('as binary'), {}, true],
    [Buffer.from('as binary'), null, true],
    [new Blob(['x']), { binary: false }, false],
  ];
  for (const [data, options, isBinary] of texts) {
    const got = once(client, 'message');
    ws.send(data, options);
    assert.equal((await got)[1], isBinary);
  }
  assert.throws(() => ws.send({}), TypeError);
});

test('what follows a Blob waits for it, and is copied', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const got = [];
  client.on('message', (data) => got.push(data.toString()));
  const buffer = Buffer.from('second');
  ws.send(new Blob(['first']));
  ws.send(buffer);
  buffer.fill('x');
  ws.send('third');
  assert.equal(ws.bufferedAmount, 'firstsecondthird'.length);
  ws.close(4000);
  const [code] = await once(client, 'close');
  assert.deepEqual([got, code], [['first', 'second', 'third'], 4000]);
});

test('callbacks', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const said = (call) => new Promise((resolve) => call(resolve));
  assert.equal(await said((cb) => ws.send('a', cb)), undefined);
  assert.equal(await said((cb) => ws.send('a', { fin: true }, cb)), undefined);
  assert.equal(await said((cb) => ws.send('a', {}, cb)), undefined);
  assert.equal(await said((cb) => ws.send('a', null, cb)), undefined);
  assert.equal(await said((cb) => ws.ping('a', false, cb)), undefined);
  assert.equal(await said((cb) => ws.ping(cb)), undefined);
  assert.equal(await said((cb) => ws.pong('a', cb)), undefined);
  ws.close();
  for (const call of ['send', 'ping', 'pong']) {
    const error = await said((cb) => ws[call]('late', cb));
    assert.equal(error.message, 'WebSocket is not open: readyState 2 (CLOSING)');
  }
  assert.ok(ws.bufferedAmount >= 12);
  await once(ws, 'close');
  const error = await said((cb) => ws.send('late', cb));
  assert.equal(error.message, 'WebSocket is not open: readyState 3 (CLOSED)');
  assert.doesNotThrow(() => ws.send('late'));
  assert.equal(ws.bufferedAmount, 20);
  if (client.readyState !== 3) await once(client, 'close');
});

test('a callback that says more has a callback', async (t) => {
  const wss = await serve(t);
  const called = [];
  const said = new Promise((resolve) => {
    wss.on('connection', (ws) => {
      const say = () => (called.push(called.length), called.length < 5 ? ws.send('more', say) : resolve());
      ws.send('first', say);
    });
  });
  await pair(t, wss);
  await said;
  assert.deepEqual(called, [0, 1, 2, 3, 4]);
});

test('a callback is called also while others keep the server busy', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const most = 20_000;
  let [heard, called, calledByThen] = [0, 0, 0];
  const all = new Promise((resolve) => {
    ws.on('message', () => {
      ws.send('x', () => (called += 1));
      for (const end = performance.now() + 0.02; performance.now() < end; );
      if (++heard === most) resolve((calledByThen = called));
    });
  });
  const one = Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x61]);
  client._socket.write(Buffer.concat(Array(most).fill(one)));
  await all;
  assert.ok(calledByThen > 0, 'a peer that never stops would have kept all callbacks');
});

test('a callback waits for a peer that does not read', async (t) => {
  const wss = await serve(t, {}, { maxOutboxBytes: 64 * 1024 * 1024 });
  const { client, ws } = await pair(t, wss);
  client.pause();
  let isWritten = false;
  const big = Buffer.alloc(8 * 1024 * 1024);
  for (let i = 0; i < 3; i += 1) ws.send(big);
  const written = new Promise((resolve) => ws.send('last', () => resolve((isWritten = true))));
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  assert.equal(isWritten, false);
  assert.ok(ws.bufferedAmount > 0);
  client.resume();
  await written;
});

test('callbacks of what was never written get an error', async (t) => {
  const wss = await serve(t, {}, { maxOutboxBytes: 64 * 1024 * 1024 });
  const { client, ws } = await pair(t, wss);
  client.pause();
  for (let i = 0; i < 3; i += 1) ws.send(Buffer.alloc(8 * 1024 * 1024));
  const failed = new Promise((resolve) => ws.send('last', resolve));
  ws.terminate();
  assert.ok((await failed) instanceof Error);
});

test('pings and pongs', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  for (const [call, heard] of [['ping', 'ping'], ['pong', 'pong']]) {
    for (const [given, expected] of [[undefined, ''], ['hi', 'hi'], [200, '200'], [Buffer.from('b'), 'b']]) {
      const got = once(client, heard);
      ws[call](given);
      assert.equal((await got)[0].toString(), expected);
    }
    assert.throws(() => ws[call](Buffer.alloc(126)), /^RangeError: The data size must not be greater than 125 bytes$/);
  }
  const [ping, pong] = [once(ws, 'ping'), once(client, 'pong')];
  client.ping('from a client');
  assert.equal((await ping)[0].toString(), 'from a client');
  assert.equal((await pong)[0].toString(), 'from a client');
  const answer = once(ws, 'pong');
  ws.ping('round trip');
  assert.equal((await answer)[0].toString(), 'round trip');
});

test('fragments', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const text = once(client, 'message');
  ws.send('frag', { fin: false });
  ws.send('men', { fin: false });
  ws.ping('between');
  ws.send('ted');
  assert.deepEqual(await text, [Buffer.from('fragmented'), false]);
  const bytes = once(client, 'message');
  ws.send(Buffer.from('a'), { fin: false });
  ws.send(Buffer.from('b'), { fin: true });
  assert.deepEqual(await bytes, [Buffer.from('ab'), true]);
  const echo = once(ws, 'message');
  client.send('x', { fin: false });
  client.send('y');
  assert.deepEqual(await echo, [Buffer.from('xy'), false]);
});

const FAULTS = [
  ['an opcode that means nothing', [0x85, 0x80, 0, 0, 0, 0], 'WS_ERR_INVALID_OPCODE', 1002, 'Invalid WebSocket frame: invalid opcode 5'],
  ['nothing to continue', [0x80, 0x80, 0, 0, 0, 0], 'WS_ERR_INVALID_OPCODE', 1002, 'Invalid WebSocket frame: invalid opcode 0'],
  ['RSV1', [0xc1, 0x80, 0, 0, 0, 0], 'WS_ERR_UNEXPECTED_RSV_1', 1002, 'Invalid WebSocket frame: RSV1 must be clear'],
  ['RSV2', [0xa1, 0x80, 0, 0, 0, 0], 'WS_ERR_UNEXPECTED_RSV_2_3', 1002, 'Invalid WebSocket frame: RSV2 and RSV3 must be clear'],
  ['no mask', [0x81, 0x00], 'WS_ERR_EXPECTED_MASK', 1002, 'Invalid WebSocket frame: MASK must be set'],
  ['a ping in fragments', [0x09, 0x80, 0, 0, 0, 0], 'WS_ERR_EXPECTED_FIN', 1002, 'Invalid WebSocket frame: FIN must be set'],
  ['a long ping', [0x89, 0xfe, 0, 126, 0, 0, 0, 0], 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', 1002, 'Invalid WebSocket frame: invalid payload length 126'],
  ['a text that is none', [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 'WS_ERR_INVALID_UTF8', 1007, 'Invalid WebSocket frame: invalid UTF-8 sequence'],
  ['a message inside another', [0x01, 0x80, 0, 0, 0, 0, 0x82], 'WS_ERR_INVALID_OPCODE', 1002, 'Invalid WebSocket frame: invalid opcode 2'],
  ['a close frame of one byte', [0x88, 0x81, 0, 0, 0, 0, 3], 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', 1002, 'Invalid WebSocket frame: invalid payload length 1'],
  ['a close code that may not be', [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], 'WS_ERR_INVALID_CLOSE_CODE', 1002, 'Invalid WebSocket frame: invalid status code 1005'],
  ['a message that is too big', [0x82, 0xfe, 0x10, 0, 0, 0, 0, 0], 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 1009, 'Max payload size exceeded'],
];
for (const [name, bytes, code, closeCode, message] of FAULTS) {
  test(`an error: ${name}`, async (t) => {
    const wss = await serve(t, { maxPayload: 1024 });
    const { client, ws } = await pair(t, wss);
    let wasClean;
    ws.addEventListener('close', (event) => (wasClean = event.wasClean));
    const closed = new Promise((resolve) => ws.on('close', (...how) => resolve(how)));
    const [error, told] = [once(ws, 'error'), once(client, 'close')];
    raw(client, bytes);
    const [failure] = await error;
    assert.deepEqual([failure.code, failure.message], [code, message]);
    assert.deepEqual([...(await closed), wasClean], [1006, Buffer.alloc(0), false]);
    assert.equal((await told)[0], closeCode);
  });
}

for (const [name, bytes, code] of FAULTS.filter(([, , , closeCode]) => closeCode !== 1002)) {
  test(`an error comes at once, and close when the peer has left: ${name}`, async (t) => {
    const wss = await serve(t, { maxPayload: 1024 });
    const { client, ws } = await pair(t, wss);
    const told = [];
    ws.on('error', (error) => told.push([error.code, ws.readyState]));
    const closed = new Promise((resolve) => ws.on('close', () => resolve(told.push('close'))));
    const failed = once(ws, 'error');
    // It does not answer our close frame.
    client.pause();
    raw(client, bytes);
    await failed;
    assert.deepEqual(told, [[code, WebSocket.CLOSING]]);
    client.resume();
    await closed;
    assert.deepEqual(told, [[code, WebSocket.CLOSING], 'close']);
  });
}

test('an error comes behind the messages that a paused connection keeps', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const told = [];
  ws.on('message', (data) => told.push(data.toString()));
  ws.on('error', (error) => told.push(error.code));
  ws.on('close', () => told.push('close'));
  client.pause();
  // One read of the server: the second and what is broken come when the first has paused it.
  raw(client, [0x81, 0x81, 0, 0, 0, 0, 0x61, 0x81, 0x81, 0, 0, 0, 0, 0x62, 0x81, 0x81, 0, 0, 0, 0, 0xff]);
  ws.once('message', () => {
    ws.pause();
    setTimeout(() => (told.push('resumed'), ws.resume()), 50);
  });
  await once(ws, 'error');
  client.resume();
  await once(ws, 'close');
  assert.deepEqual(told, ['a', 'resumed', 'b', 'WS_ERR_INVALID_UTF8', 'close']);
});

test('a fault without a listener of error ends no process', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  raw(client, [0x85, 0x80, 0, 0, 0, 0]);
  const code = await new Promise((resolve) => ws.on('close', resolve));
  assert.equal(code, 1006);
});

test('close', async (t) => {
  const wss = await serve(t);
  const first = await pair(t, wss);
  assert.throws(() => first.ws.close('1000'), /^TypeError: First argument must be a valid error code number$/);
  assert.throws(() => first.ws.close(1004), /^TypeError: First argument/);
  assert.throws(() => first.ws.close(1000, 'a'.repeat(124)), /^RangeError: The message must not be greater than 123 bytes$/);
  assert.throws(() => first.ws.close(1000, [1]), /^TypeError: Second argument must be a string or a Uint8Array$/);
  const cases = [
    [[], 1005, ''],
    [[1000], 1000, ''],
    [[1000, 'why'], 1000, 'why'],
    [[4001, Buffer.from('bytes')], 4001, 'bytes'],
  ];
  for (const [given, code, reason] of cases) {
    const { client, ws } = await pair(t, wss);
    const [told, closed] = [once(client, 'close'), once(ws, 'close')];
    ws.close(...given);
    assert.equal(ws.readyState, WebSocket.CLOSING);
    ws.close(1001);
    assert.deepEqual(await told, [code, Buffer.from(reason)]);
    const [ours] = await closed;
    assert.equal(ours, code);
    assert.equal(ws.readyState, WebSocket.CLOSED);
    ws.close();
  }
});

test('the close of a peer', async (t) => {
  const wss = await serve(t);
  for (const [given, code, reason] of [[[], 1005, ''], [[1000, 'some reason'], 1000, 'some reason'], [[4000], 4000, '']]) {
    const { client, ws } = await pair(t, wss);
    const [closed, answered] = [once(ws, 'close'), once(client, 'close')];
    client.close(...given);
    assert.deepEqual(await closed, [code, Buffer.from(reason)]);
    assert.equal((await answered)[0], code);
  }
  const { client, ws } = await pair(t, wss);
  client.terminate();
  assert.deepEqual(await once(ws, 'close'), [1006, Buffer.alloc(0)]);
});

for (const where of ['port', 'server']) {
  test(`terminate, and what destroys the socket (${where})`, async (t) => {
    const wss = where === 'port' ? await serve(t) : (await share(t)).wss;
    for (const end of [(ws) => ws.terminate(), (ws) => ws._socket.destroy()]) {
      const { client, ws } = await pair(t, wss);
      const [told, closed] = [once(client, 'close'), once(ws, 'close')];
      end(ws);
      assert.equal((await told)[0], 1006);
      assert.equal((await closed)[0], 1006);
      assert.equal(ws._socket.destroyed, true);
      ws.terminate();
    }
  });
}

for (const where of ['port', 'server']) {
  test(`what was said before the socket is dropped or ended arrives (${where})`, async (t) => {
    const wss = where === 'port' ? await serve(t) : (await share(t)).wss;
    const ends = [(ws) => ws.terminate(), (ws) => ws._socket.end(), (ws) => ws._socket.destroySoon()];
    for (const end of ends) {
      for (const isNew of [true, false]) {
        if (isNew) wss.once('connection', (ws) => (ws.send('last'), end(ws)));
        const client = new WebSocketClient(urlOf(wss));
        const got = [];
        client.on('open', () => got.push('open'));
        client.on('message', (data) => got.push(data.toString()));
        const told = once(client, 'close');
        const [ws] = await once(wss, 'connection');
        const closed = ws.readyState === WebSocket.CLOSED ? [1006] : once(ws, 'close');
        if (!isNew) {
          if (client.readyState !== WebSocket.OPEN) await once(client, 'open');
          ws.send('last');
          end(ws);
        }
        assert.notEqual(ws.readyState, WebSocket.OPEN);
        assert.equal((await told)[0], 1006);
        assert.equal((await closed)[0], 1006);
        assert.deepEqual(got, ['open', 'last'], `${end} ${isNew}`);
      }
    }
  });
}

test('the socket of a port ends once, and takes no bytes', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  assert.throws(() => ws._socket.end('bytes'), { code: 'not_supported' });
  const told = once(client, 'close');
  const finished = new Promise((resolve) => ws._socket.end(resolve));
  assert.deepEqual([ws._socket.writable, ws.readyState], [false, WebSocket.CLOSING]);
  ws._socket.end().destroy();
  await finished;
  assert.equal((await told)[0], 1006);
});

test('the socket of a port finishes behind the closing handshake, and not where the peer is gone', async (t) => {
  const wss = await serve(t);
  for (const isClean of [true, false]) {
    const { client, ws } = await pair(t, wss);
    const told = [];
    for (const event of ['finish', 'close']) ws._socket.on(event, () => told.push(event));
    const closed = once(ws, 'close');
    if (isClean) client.close();
    else client.terminate();
    await closed;
    assert.deepEqual(told, isClean ? ['finish', 'close'] : ['close']);
  }
});

test('while the core closes a connection it is CLOSING', async (t) => {
  const wss = await serve(t, { maxPayload: 1024 });
  const { client, ws } = await pair(t, wss);
  ws.on('error', () => {});
  const closed = new Promise((resolve) => ws.on('close', resolve));
  // It does not answer our close frame.
  client.pause();
  client.send(Buffer.alloc(2000));
  while (ws.readyState === WebSocket.OPEN) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(ws.readyState, WebSocket.CLOSING);
  const error = await new Promise((resolve) => ws.send('late', resolve));
  assert.equal(error.message, 'WebSocket is not open: readyState 2 (CLOSING)');
  assert.equal(ws.bufferedAmount, 4);
  client.resume();
  await closed;
  assert.equal(ws.readyState, WebSocket.CLOSED);
});

test('what comes right before the close frame of the peer is answered', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const states = [];
  ws.on('message', () => (states.push(ws.readyState), ws.send('answer')));
  const [answer, told] = [once(client, 'message'), once(client, 'close')];
  client.send('question');
  client.close(4000);
  assert.equal((await answer)[0].toString(), 'answer');
  assert.equal((await told)[0], 4000);
  assert.deepEqual(states, [WebSocket.OPEN]);
});

test('pause and resume', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  ws.pause();
  assert.equal(ws.isPaused, true);
  let isHeard = false;
  ws.on('message', () => (isHeard = true));
  client.send('a');
  await new Promise((resolve) => client.send('b', resolve));
  assert.equal(isHeard, false);
  const heard = once(ws, 'message');
  ws.resume();
  assert.equal(ws.isPaused, false);
  await heard;
});

for (const allowSynchronousEvents of [true, false]) {
  test(`who is paused at once is told nothing until it resumes (allowSynchronousEvents: ${allowSynchronousEvents})`, async (t) => {
    const wss = await serve(t, { allowSynchronousEvents });
    const said = [];
    const client = new WebSocketClient(urlOf(wss));
    client.on('open', () => {
      for (const text of ['a', 'b', 'c']) client.send(text);
      client.ping('d');
      client.close(4000);
    });
    const [ws] = await once(wss, 'connection');
    ws.pause();
    ws.on('close', (code) => said.push(code));
    await once(client, 'open');
    // They have come, or wait in the core: both before and behind this.
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    ws.on('ping', (data) => said.push(`ping ${data}`));
    ws.on('message', (data) => {
      said.push(data.toString());
      if (said.length !== 2) return;
      ws.pause();
      setImmediate(() => {
        said.push('resumed');
        ws.resume();
      });
    });
    ws.resume();
    if (ws.readyState !== 3) await new Promise((resolve) => ws.on('close', resolve));
    assert.deepEqual(said.filter((one) => one !== 'resumed'), ['a', 'b', 'c', 'ping d', 4000]);
    assert.equal(said.indexOf('resumed'), 2);
  });
}

test('what came with the handshake waits for a connection that is paused', async (t) => {
  const wss = await serve(t);
  const told = new Promise((resolve) => {
    wss.on('connection', (ws) => {
      ws.pause();
      setImmediate(() => {
        ws.once('message', (data) => resolve(data.toString()));
        ws.resume();
      });
    });
  });
  const socket = net.connect(wss.address().port, '127.0.0.1').on('error', () => {});
  t.after(() => socket.destroy());
  const lines = Object.entries({ Host: 'localhost', Connection: 'Upgrade', Upgrade: 'websocket', ...KEY }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(Buffer.concat([Buffer.from(`GET / HTTP/1.1\r\n${lines.join('')}\r\n`), Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x78])]));
  assert.equal(await told, 'x');
});

test('the socket of a port pauses, counts and ends as its connection does', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const socket = ws._socket;
  const came = [];
  ws.on('message', (data) => came.push(String(data)));
  assert.deepEqual([socket.isPaused(), socket.writableLength], [false, 0]);
  ws.pause();
  assert.equal(socket.isPaused(), true);
  assert.equal(socket.resume(), socket);
  assert.deepEqual([socket.isPaused(), ws.isPaused], [false, false]);
  socket.pause();
  assert.equal(ws.isPaused, true);
  ws.resume();
  client.send('read again');
  await once(ws, 'message');
  assert.deepEqual(came, ['read again']);
  // Who sends much at once corks the socket of ws.
  socket.cork();
  ws.send('corked');
  socket.uncork();
  assert.equal((await once(client, 'message'))[0].toString(), 'corked');
  // The core counts what it has written in a turn of its own, which may be behind that of the client.
  while (ws.bufferedAmount > 0) await new Promise(setImmediate);
  // Bytes of a Blob wait until it is read, which is not before this turn is over.
  ws.send(new Blob(['0123456789']));
  assert.deepEqual([socket.writableLength, socket._writableState.length], [10, 10]);
  socket.resetAndDestroy();
  await once(ws, 'close');
  assert.deepEqual([socket.destroyed, socket.writableLength], [true, 0]);
});

test('who pauses the socket of a server of Node\'s pauses the connection', async (t) => {
  const { wss } = await share(t);
  const { client, ws } = await pair(t, wss);
  const came = [];
  ws.on('message', (data) => came.push([String(data), ws.isPaused]));
  assert.equal(ws._socket.pause(), ws._socket);
  assert.deepEqual([ws._socket.isPaused(), ws.isPaused], [true, true]);
  client.send('waits');
  assert.equal(ws._socket.resume(), ws._socket);
  await once(ws, 'message');
  assert.deepEqual(came, [['waits', false]]);
});

test('EventTarget', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const got = [];
  const listener = (event) => got.push(['added', event.type, event.data, event.target === ws]);
  ws.addEventListener('message', listener);
  ws.addEventListener('message', listener);
  ws.addEventListener('message', { handleEvent: (event) => got.push(['object', event.data]) }, { once: true });
  ws.addEventListener('unknown', listener);
  ws.onmessage = (event) => got.push(['attribute', event.data]);
  assert.equal(ws.listenerCount('message'), 3);
  const twice = new Promise((resolve) => ws.on('message', () => got.length >= 5 && resolve()));
  client.send('a');
  client.send(Buffer.from('b'));
  await twice;
  assert.deepEqual(got, [['added', 'message', 'a', true], ['object', 'a'], ['attribute', 'a'], ['added', 'message', Buffer.from('b'), true], ['attribute', Buffer.from('b')]]);
  ws.removeEventListener('message', listener);
  ws.onmessage = null;
  assert.deepEqual([ws.onmessage, ws.listenerCount('message')], [null, 1]);
  const closed = new Promise((resolve) => (ws.onclose = resolve));
  client.close(1000, 'bye');
  const { code, reason, wasClean, type, target } = await closed;
  assert.deepEqual([code, reason, wasClean, type, target === ws], [1000, 'bye', true, 'close', true]);
});

test('a listener that throws, or rejects, costs its connection', async (t) => {
  const wss = await serve(t);
  const listeners = process.listeners('uncaughtException');
  const rejections = process.listeners('unhandledRejection');
  process.removeAllListeners('uncaughtException');
  process.removeAllListeners('unhandledRejection');
  const { error } = console;
  const printed = [];
  console.error = (...what) => printed.push(what.at(-1)?.message);
  t.after(() => {
    console.error = error;
    for (const listener of listeners) process.on('uncaughtException', listener);
    for (const listener of rejections) process.on('unhandledRejection', listener);
  });
  for (const fail of [() => { throw new Error('thrown'); }, async () => { throw new Error('rejected'); }]) {
    const { client, ws } = await pair(t, wss);
    const { client: other, ws: theirs } = await pair(t, wss);
    ws.on('message', fail);
    client.send('a');
    client.send('and one more, which is not told');
    assert.equal((await once(client, 'close'))[0], 1011);
    const echoed = once(other, 'message');
    theirs.send('still here');
    await echoed;
  }
  // A listener that is asynchronous may have begun with the second message before the first one's promise is rejected.
  assert.deepEqual([printed.filter((what) => what === 'thrown').length, ...new Set(printed)], [1, 'thrown', 'rejected']);
});

test('createWebSocketStream', async (t) => {
  const wss = await serve(t);
  const { client, ws } = await pair(t, wss);
  const stream = createWebSocketStream(ws, { encoding: 'utf8' });
  const chunk = once(stream, 'data');
  client.send('in');
  assert.equal((await chunk)[0], 'in');
  const out = once(client, 'message');
  stream.write('out');
  assert.equal((await out)[0].toString(), 'out');
  const [closed, ended] = [once(stream, 'close'), once(client, 'close')];
  stream.end();
  stream.resume();
  await ended;
  await closed;
  const second = await pair(t, wss);
  const destroyed = createWebSocketStream(second.ws);
  const gone = once(second.client, 'close');
  destroyed.destroy();
  assert.equal((await gone)[0], 1006);
});

test('protocol json gives the checked text', async (t) => {
  const events = { say: { schema: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'], additionalProperties: false } } };
  const wss = await serve(t, {}, { protocol: 'json', events });
  const { client, ws } = await pair(t, wss);
  const got = once(ws, 'message');
  client.send('{ "id": 1, "event":"say" , "data":{"text":"hi"}}');
  const [data, isBinary] = await got;
  assert.deepEqual([JSON.parse(data), isBinary], [{ event: 'say', data: { text: 'hi' }, id: 1 }, false]);
  client.send('{"event":"say","data":{"text":5}}');
  const [code, reason] = await once(ws, 'close');
  assert.deepEqual([code, reason.toString()], [1008, 'schema mismatch']);
});

test('who somebody is', async (t) => {
  const wss = await serve(t, {}, { auth: { tokens: [{ token: 'secret', user: 'alice', roles: ['admin'] }] } });
  const { ws, request } = await pair(t, wss, { headers: { authorization: 'Bearer secret' } });
  assert.deepEqual([ws.wsguard.user, ws.wsguard.roles, ws.wsguard.ip], ['alice', ['admin'], '127.0.0.1']);
  assert.equal(request.headers.authorization, 'Bearer secret');
  const refused = new WebSocketClient(`ws://127.0.0.1:${wss.address().port}`);
  const [, response] = await once(refused, 'unexpected-response');
  assert.equal(response.statusCode, 401);
  response.resume();
});

// Messages there and back: events, replies, rooms, raw payloads, what `send` answers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { Client, handshake, start, until } from './harness.mjs';

const events = { echo: {}, close: {}, say: { schema: { type: 'object', required: ['text'] } } };

test('events come with data and meta, replies carry the id', async (t) => {
  const server = await start(t, { events });
  const seen = [];
  server.on('event', (_conn, _data, meta) => seen.push(meta.event));
  server.on('echo', (conn, data, meta) => {
    seen.push({ ...meta });
    return void conn.reply(meta, 'echo', data);
  });
  const client = await Client.connect(server.address);
  const data = { text: 'ä€😀', list: [1, null, true, { a: 'b' }] };
  client.emit('echo', data, { id: 7 });
  assert.deepEqual(await client.event(), { event: 'echo', data, status: 'ok', id: 7 });
  client.emit('echo', undefined, { id: 'x"y', status: 'error' });
  assert.deepEqual(await client.event(), { event: 'echo', data: null, status: 'ok', id: 'x"y' });
  client.emit('echo', 1);
  assert.deepEqual(await client.event(), { event: 'echo', data: 1, status: 'ok' });
  assert.deepEqual(seen.map((one) => one.id ?? one), ['echo', 7, 'echo', 'x"y', 'echo', { event: 'echo', id: undefined, status: undefined, sizeBytes: 25 }]);
});

test('every id that is let in can be replied to', async (t) => {
  const server = await start(t, { events });
  const errors = [];
  server.on('error', (error) => errors.push(error.message));
  server.on('echo', (conn, data, meta) => void conn.reply(meta, 'echo', data));
  const client = await Client.connect(server.address);
  for (const id of ['9007199254740992', '-9007199254740992', '-0', '0', '""', '"\\u2028\\u0000\\ud83d\\ude00"', '"__proto__"']) {
    client.send(`{"event":"echo","id":${id}}`);
    assert.equal((await client.event()).id, JSON.parse(id) === 0 ? 0 : JSON.parse(id), id);
  }
  assert.deepEqual(errors, []);
});

test('an event may be called like an event of the server', async (t) => {
  const server = await start(t, { events });
  const closed = once(server, 'close');
  server.onEvent('close', (conn, data) => conn.close(data.code, data.reason));
  const client = await Client.connect(server.address);
  client.emit('close', { code: 4001, reason: 'as asked' });
  assert.deepEqual(await client.closed, { code: 4001, reason: 'as asked' });
  const [conn, code, closing] = await closed;
  assert.deepEqual([conn.isOpen, code, closing], [false, 4001, { reason: 'as asked', clean: true, verdict: null }]);
});

test('raw text and binary come as strings and Buffers, and go back', async (t) => {
  const server = await start(t, { protocol: 'raw', maxMessageBytes: 1 << 20 });
  const kept = [];
  server.on('message', (conn, data, isBinary) => {
    assert.equal(Buffer.isBuffer(data), isBinary);
    assert.equal(typeof data === 'string', !isBinary);
    kept.push(data);
    conn.send(data);
  });
  const client = await Client.connect(server.address);
  const messages = ['', 'ascii', 'äöü', '€😀', 'x'.repeat(100_000), Buffer.alloc(0), Buffer.from([0, 255]), Buffer.alloc(300_000, 'y')];
  for (const message of messages) client.send(message);
  for (const message of messages) assert.deepEqual(await client.message(), message);
  // What was received stays as it was, whatever came later.
  assert.deepEqual(kept, messages);
});

test('large payloads of many connections at once go back as they came', async (t) => {
  const server = await start(t, { protocol: 'raw', maxConnectionsPerIp: 64 });
  server.on('message', (conn, data) => conn.send(data));
  const clients = await Promise.all(Array.from({ length: 32 }, () => Client.connect(server.address)));
  for (let round = 0; round < 5; round += 1) {
    const payloads = clients.map((_, at) => Buffer.from(Array.from({ length: 16_384 }, (_, byte) => (byte * 7 + at * 31 + round) & 255)));
    clients.forEach((client, at) => client.send(payloads[at]));
    const echoes = await Promise.all(clients.map((client) => client.message()));
    for (const [at, echo] of echoes.entries()) assert.ok(echo.equals(payloads[at]), `round ${round}, connection ${at}`);
  }
});

test('a Buffer that is received is a Buffer like any other', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const client = await Client.connect(server.address);
  client.send(Buffer.from('hello'));
  const [, data] = await once(server, 'message');
  assert.equal(data.toString('latin1', 1, 3), 'el');
  assert.equal(data.constructor, Buffer);
  assert.ok(Buffer.isBuffer(data.subarray(1)) && Buffer.isBuffer(data.slice(1)));
  assert.equal(data.subarray(1, 3).toString(), 'el');
  assert.deepEqual(Buffer.concat([data, data]).toString(), 'hellohello');
  assert.deepEqual(data.toJSON(), { type: 'Buffer', data: [104, 101, 108, 108, 111] });
  assert.deepEqual([...data.map((byte) => byte + 1)], [105, 102, 109, 109, 112]);
});

test('what is sent in one tick arrives in order, texts and bytes mixed', async (t) => {
  const server = await start(t, { protocol: 'raw', maxOutboxBytes: 1 << 26 });
  const sent = [];
  server.on('open', (conn) => {
    for (let round = 0; round < 4000; round += 1) {
      sent.push(`t${round}€`, Buffer.from(`b${round}`));
      conn.send(sent.at(-2));
      conn.send(sent.at(-1));
    }
    for (const size of [9000, 70_000, 300_000, 2_000_000]) {
      sent.push(Buffer.alloc(size, size), 'z'.repeat(size));
      conn.send(sent.at(-2));
      conn.send(sent.at(-1));
    }
  });
  const client = await Client.connect(server.address);
  for (let at = 0; at < 8008; at += 1) assert.deepEqual(await client.message(), sent[at]);
});

test('a small buffer may be used again at once', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  server.on('open', (conn) => {
    const buffer = Buffer.alloc(4);
    for (let value = 0; value < 3; value += 1) conn.send(buffer.fill(value));
  });
  const client = await Client.connect(server.address);
  for (let value = 0; value < 3; value += 1) assert.deepEqual(await client.message(), Buffer.alloc(4, value));
});

test('any view and ArrayBuffer is bytes; anything else is refused', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  const shared = new Uint8Array(new SharedArrayBuffer(2)).fill(9);
  for (const data of [new Uint16Array([0x0101]), new DataView(new ArrayBuffer(2)), new ArrayBuffer(2), shared, shared.buffer]) {
    assert.equal(conn.send(data), 'sent');
    assert.equal((await client.message()).length, 2);
  }
  for (const data of [undefined, null, 5, {}, ['a']]) assert.throws(() => conn.send(data), { code: 'invalid_argument', name: 'TypeError' });
});

test('lone surrogates become replacement characters, also where two texts meet', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  server.on('open', (conn) => {
    for (const text of ['a\ud83d', '\ude00b', 'ü']) conn.send(text);
  });
  const client = await Client.connect(server.address);
  for (const text of ['a\ufffd', '\ufffdb', 'ü']) assert.equal(await client.message(), text);
});

test('data that is no JSON is refused where it is given', async (t) => {
  const server = await start(t, { events });
  const opened = once(server, 'open');
  await Client.connect(server.address);
  const [conn] = await opened;
  const circular = {};
  circular.self = circular;
  assert.throws(() => conn.emit('echo', circular), TypeError);
  assert.throws(() => conn.emit('echo', () => {}), { code: 'invalid_argument' });
  assert.throws(() => conn.emit(5, 1), { code: 'invalid_argument' });
  assert.throws(() => server.to('r').emit('echo', Symbol('s')), { code: 'invalid_argument' });
  assert.throws(() => conn.close(999), { code: 'invalid_argument' });
  assert.throws(() => conn.close(1000.5), { code: 'invalid_argument' });
  assert.throws(() => conn.close(1000, 'x'.repeat(124)), { code: 'invalid_argument' });
  assert.throws(() => conn.join('x'.repeat(257)), { code: 'invalid_argument' });
  assert.equal(conn.isOpen, true);
});

test('rooms: join, except, leave; everyone', async (t) => {
  const server = await start(t, { events });
  server.on('open', (conn) => {
    conn.join('lobby');
    conn.emit('ready');
  });
  const [a, b] = [await Client.connect(server.address), await Client.connect(server.address)];
  await Promise.all([a.event(), b.event()]);
  const [first] = server.connections;
  server.to('lobby').emit('said', 1);
  server.to('lobby').except(first).emit('said', 2);
  first.leave('lobby');
  server.to('lobby').emit('said', 3);
  server.toAll().emit('said', 4);
  const messages = async (client, count) => {
    const got = [];
    while (got.length < count) got.push((await client.event()).data);
    return got;
  };
  assert.deepEqual([await messages(a, 2), await messages(b, 4)], [[1, 4], [1, 2, 3, 4]]);
});

test('a broadcast without some reaches whoever is there, heard of or not', async (t) => {
  const server = await start(t, { protocol: 'raw', threads: 2 });
  const clients = [];
  for (let at = 0; at < 3; at += 1) clients.push(await Client.connect(server.address));
  const [host, port] = server.address.split(':');
  const stranger = connect(Number(port), host);
  await once(stranger, 'connect');
  server.on('message', (conn) => {
    const [a, b] = server.connections;
    // Nobody here can hear of whoever comes now.
    stranger.write(handshake());
    while (server.stats().openedTotal < 4);
    server.toAll().except(a).except(b).send('text');
    server.toAll().except(a, b).send(Buffer.from('bytes'));
    server.toAll().except(...Array.from({ length: 5000 }, (_, at) => (at % 2 ? a : b))).send('many');
    server.toAll().send('end');
  });
  clients[2].send('now');
  let read = '';
  for await (const chunk of stranger) {
    read += chunk.toString('latin1');
    if (read.endsWith('end')) break;
  }
  assert.equal(read.slice(read.indexOf('\r\n\r\n') + 4), '\x81\x04text\x82\x05bytes\x81\x04many\x81\x03end');
  const got = [];
  for (const client of clients) {
    const messages = [];
    for (let text = ''; text !== 'end'; ) messages.push((text = String(await client.message())));
    got.push(messages.join(' '));
  }
  assert.deepEqual(got.sort(), ['end', 'end', 'text bytes many end']);
});

test('a room that is none is refused where it is written', async (t) => {
  const server = await start(t, { events });
  const opened = once(server, 'open');
  await Client.connect(server.address);
  const [conn] = await opened;
  for (const room of ['', 'x'.repeat(257), '€'.repeat(86), 'half \ud800', undefined, null, 5, Symbol('x'), {}]) {
    for (const call of [() => server.to(room), () => conn.join(room), () => conn.leave(room)]) {
      assert.throws(call, { name: 'TypeError', code: 'invalid_argument', message: /^room must / });
    }
  }
  assert.deepEqual(conn.rooms, []);
});

test('send answers closed after the close, and never throws', async (t) => {
  const server = await start(t, { events });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  assert.equal(conn.emit('hi'), 'sent');
  const closed = once(server, 'close');
  await client.close();
  await closed;
  assert.deepEqual([conn.emit('x'), conn.reply({ id: 1 }, 'x')], ['closed', 'closed']);
  for (const call of ['join', 'leave']) conn[call]('room');
  conn.close();
  conn.pause();
  conn.resume();
  await conn.drained();
  assert.equal([...server.connections].length, 0);
});

test('send answers queued for a peer that does not read, until it has', async (t) => {
  const server = await start(t, { protocol: 'raw', maxOutboxBytes: 1 << 26 });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  client.socket.pause();
  const payload = Buffer.alloc(1 << 20);
  let sent = 0;
  while (conn.send(payload) !== 'queued') {
    sent += 1;
    await new Promise(setImmediate);
    assert.ok(sent < 64, 'it never was queued');
  }
  assert.equal(conn.isQueued, true);
  const told = once(server, 'drained');
  client.socket.resume();
  await conn.drained();
  assert.equal((await told)[0], conn);
  assert.equal(conn.isQueued, false);
  assert.equal(conn.send('again'), 'sent');
});

test('disconnectUser, stats and violations', async (t) => {
  const server = await start(t, { events, auth: { tokens: [{ token: 'good', user: 'alice' }] } });
  const client = await Client.connect(server.address, { headers: { 'x-auth-token': 'good' } });
  const told = once(server, 'violation');
  server.disconnectUser('alice');
  assert.deepEqual(await client.closed, { code: 1008, reason: 'session revoked' });
  const [violation] = await told;
  const { code, user, ip, detail } = violation;
  assert.deepEqual([code, user, ip, detail], ['session_revoked', 'alice', '127.0.0.1', 'disconnect_user was called']);
  assert.equal(await Client.refused(server.address), 401);
  const stats = server.stats();
  assert.deepEqual([stats.openedTotal, stats.verdicts.session_revoked, stats.verdicts.auth_failed], [1, 1, 1]);
});

test('pause stops the messages of one connection', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  server.on('message', (conn, data) => conn.send(data));
  const opened = once(server, 'open');
  const [a] = [await Client.connect(server.address), await opened];
  const [conn] = await opened;
  conn.pause();
  const b = await Client.connect(server.address);
  b.send('through');
  assert.equal(await b.message(), 'through');
  a.send('waits');
  b.send('again');
  assert.equal(await b.message(), 'again');
  const waits = a.message();
  conn.resume();
  assert.equal(await waits, 'waits');
});

test('connections that nobody is told of are there, and gone, all the same', async (t) => {
  const server = await start(t, { events });
  const [first] = [await Client.connect(server.address), await Client.connect(server.address)];
  assert.equal([...server.connections].length, 2);
  await first.close();
  assert.equal([...server.connections].length, 1);
});

test('to look at the connections calls no handler', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  let calls = 0;
  server.on('message', (conn, data) => {
    calls += 1;
    conn.send(data);
  });
  const client = await Client.connect(server.address);
  client.send('hello');
  while (server.stats().messagesIn === 0);
  assert.equal([...server.connections].length, 1);
  assert.equal(calls, 0);
  assert.equal(await client.message(), 'hello');
});

/** Waits until JavaScript has taken what happened before: the answer to a message that was sent behind it. */
async function settled(server, talk) {
  const client = await Client.connect(server.address, { path: '/settled' });
  talk(client);
  await client.message();
  await client.close();
}

test('who begins to listen to closes hears of connections that opened before', async (t) => {
  const server = await start(t, { events });
  server.on('echo', (conn) => void conn.emit('echo'));
  const client = await Client.connect(server.address);
  await settled(server, (other) => other.emit('echo'));
  const heard = new Promise((resolve) => {
    server.on('close', (...closed) => closed[0].path === '/' && resolve(closed));
  });
  await client.close(1000, 'bye');
  const [conn, code, { reason }] = await heard;
  assert.deepEqual([code, reason, conn.ip, conn.path], [1000, 'bye', '127.0.0.1', '/']);
});

test('who begins to listen to opens hears only of those to come', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  server.on('message', (conn, data) => conn.send(data));
  const before = await Client.connect(server.address, { path: '/before' });
  await settled(server, (other) => other.send('x'));
  const paths = [];
  server.on('open', (conn) => paths.push(conn.path));
  before.send('hello');
  assert.equal(await before.message(), 'hello');
  const after = once(server, 'open');
  await Client.connect(server.address, { path: '/after' });
  await after;
  assert.deepEqual(paths, ['/after']);
});

test('a handler sees connections that said nothing, and those of them that leave are seen no longer', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  server.on('message', (conn, text) => {
    const names = [...server.connections].map((one) => one.path).sort();
    conn.send(`${text} ${names}`);
  });
  const talker = await Client.connect(server.address, { path: '/talker' });
  for (const round of [1, 2, 3]) {
    const silent = await Client.connect(server.address, { path: '/silent' });
    await (await Client.connect(server.address, { path: '/gone' })).close();
    talker.send(`${round}`);
    assert.equal(await talker.message(), `${round} /silent,/talker`);
    // One is closed with a message of the talker behind it: both may come in one chunk.
    const closed = silent.close();
    talker.send('then');
    assert.match(await talker.message(), /talker$/);
    await closed;
    assert.deepEqual([...server.connections].map((one) => one.path), ['/talker']);
  }
});

test('a violation names its connection, also one that said nothing valid', async (t) => {
  const server = await start(t, { events });
  const heard = once(server, 'violation');
  const client = await Client.connect(server.address, { path: '/offender' });
  client.send('{');
  const [{ code, conn, detail }] = await heard;
  assert.deepEqual([code, conn.path], ['bad_envelope', '/offender']);
  assert.match(detail, /^[ -~]{1,256}$/);
});

test('a violation says what was wrong, before the 101 as well, and never what the peer said', async (t) => {
  const schema = { type: 'object', properties: { age: { type: 'integer' } } };
  const server = await start(t, { events: { say: { schema } } });
  const told = [];
  server.on('violation', ({ code, event, detail }) => told.push([code, event, detail]));
  assert.equal(await Client.refused(server.address, { origin: 'https://evil.example' }), 403);
  const client = await Client.connect(server.address);
  client.emit('say', { age: 's3cret' });
  await client.closed;
  await until(() => told.length === 2);
  assert.deepEqual(told.map(([code, event]) => [code, event]), [['origin_denied', null], ['schema_mismatch', 'say']]);
  for (const [, , detail] of told) assert.match(detail, /^[ -~]{1,256}$/);
  assert.match(told[1][2], /age/);
  assert.equal(JSON.stringify(told).includes('s3cret'), false, JSON.stringify(told));
});

test('who begins to listen hears what follows', async (t) => {
  const server = await start(t, { events });
  const offend = async () => {
    const client = await Client.connect(server.address);
    client.send('{');
    await client.closed;
  };
  await offend();
  const heard = once(server, 'violation');
  await offend();
  assert.equal((await heard)[0].code, 'bad_envelope');
  assert.equal(server.stats().verdicts.bad_envelope, 2);
});

// What a handler knows of its peer, whom it reaches, and what it may ask.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { z } from 'zod';
import { Server, accept, acceptAnonymous, reject } from '../index.mjs';
import { connect } from '../testing/index.mjs';
import { Client, ORIGIN, handshake, policy, run, start, until } from './harness.mjs';

const tokens = { tokens: ['alice', 'bob', 'carol'].map((user) => ({ token: `t-${user}`, user })) };

/** A server with clients of these users, and their connections. */
async function among(t, users, more = {}) {
  const server = await start(t, { auth: tokens, ...more });
  const conns = [];
  server.on('open', (conn) => void conns.push(conn));
  const clients = [];
  for (const user of users) {
    clients.push(await connect(server, { user }));
    await until(() => conns.length === clients.length);
  }
  return { server, clients, conns };
}

test('what is known since the handshake', async (t) => {
  const server = await start(t, { keepHeaders: ['user-agent', 'x-many'], keepCookies: ['theme'] });
  const opened = once(server, 'open');
  const headers = { 'User-Agent': 'test/1', 'X-Many': ['a', 'b'], 'X-Other': 'c', Cookie: 'theme=dark; sid=secret' };
  const client = await connect(server, { path: '/a?room=5&x=%C3%BC&x=2', headers });
  const [conn] = await opened;
  assert.deepEqual([conn.queryString, conn.query.get('room'), conn.query.getAll('x')], ['room=5&x=%C3%BC&x=2', '5', ['ü', '2']]);
  assert.deepEqual([{ ...conn.headers }, { ...conn.cookies }], [{ 'user-agent': 'test/1', 'x-many': 'a, b' }, { theme: 'dark' }]);
  assert.deepEqual([conn.origin, conn.claims, conn.tls, conn.route], [ORIGIN, null, null, null]);
  assert.ok(conn.port > 0 && Math.abs(conn.openedAtMs - Date.now()) < 30_000);
  assert.match(conn.handshakeId, /^[0-9a-f]+$/);
  assert.ok(Object.isFrozen(conn.headers) && !JSON.stringify(conn).includes('dark'));
  await client.close();
  const without = once(server, 'open');
  await connect(server);
  const [bare] = await without;
  assert.deepEqual([bare.queryString, bare.query.size ?? [...bare.query].length, { ...bare.headers }], [null, 0, {}]);
});

test('whom a trial lets in is told from who is allowed', async (t) => {
  const server = await start(t, { auth: 'callback', onViolation: 'report', reportHandshakes: true, authenticate: (request) => accept({ user: 'alice', data: `hers, ${request.reported}` }) });
  for (const [origin, reported] of [['https://evil.example', true], [ORIGIN, false]]) {
    const opened = once(server, 'open');
    await connect(server, { origin });
    const [conn] = await opened;
    assert.deepEqual([conn.reported, conn.user, conn.data], [reported, reported ? null : 'alice', `hers, ${reported}`]);
  }
});

test('claims of a JSON Web Token', async (t) => {
  const key = 'k'.repeat(32);
  const server = await start(t, { auth: { jwt: { algorithms: ['HS256'], key, rolesClaim: 'scope' } } });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: 'alice', exp: Math.floor(Date.now() / 1000) + 60, scope: 'read write', tenant: 5 };
  const signed = `${part({ alg: 'HS256' })}.${part(claims)}`;
  const opened = once(server, 'open');
  await connect(server, { token: `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}` });
  const [conn] = await opened;
  assert.deepEqual([conn.claims, [...conn.roles], conn.user], [claims, ['read', 'write'], 'alice']);
});

test('accept and reject say what the response has', async (t) => {
  const answers = {
    cookie: () => accept({ user: 'x', headers: { 'Set-Cookie': ['a=1', 'b=2'], 'X-N': 5 }, subprotocol: 'v2' }),
    fetch: () => acceptAnonymous({ headers: new Headers({ 'x-a': 'b' }) }),
    teapot: () => reject(418, { headers: [['X-Reason', 'teapot']], body: 'short and stout' }),
    bytes: () => reject(302, { headers: { Location: 'https://a.example/' }, body: Buffer.from([1, 2]) }),
    bad: () => accept({ user: 'x', headers: { Connection: 'close' } }),
    split: () => reject(401, { headers: { 'X-A': 'b\r\nX-C: d' } }),
    other: () => accept({ user: 'x', subprotocol: 'v9' }),
  };
  const asked = [];
  const authenticate = (request) => {
    asked.push(request);
    return answers[request.token]();
  };
  const server = await start(t, { auth: 'callback', authenticate, routes: { '/r/{x}': {}, '/': {} } });
  const errors = [];
  server.on('error', (error, _conn, event) => errors.push([event, error.message]));
  const client = await connect(server, { token: 'cookie', subprotocols: ['v1', 'v2'], path: '/r/%61' });
  assert.deepEqual([client.headers['set-cookie'], client.headers['x-n'], client.subprotocol], [['a=1', 'b=2'], '5', 'v2']);
  assert.deepEqual([asked[0].route, { ...asked[0].params }, asked[0].signal.aborted], ['/r/{x}', { x: 'a' }, false]);
  assert.match(asked[0].id, /^[0-9a-f]+$/);
  assert.equal((await connect(server, { token: 'fetch' })).headers['x-a'], 'b');
  await assert.rejects(connect(server, { token: 'teapot' }), (error) => error.status === 418 && error.body === 'short and stout' && error.headers['x-reason'] === 'teapot');
  await assert.rejects(connect(server, { token: 'bytes' }), (error) => error.status === 302 && error.body === '\u0001\u0002' && error.headers.location === 'https://a.example/');
  for (const token of ['bad', 'split', 'other']) await assert.rejects(connect(server, { token, subprotocols: ['v1'] }), { status: 503 });
  assert.deepEqual(errors.map(([event]) => event), ['authenticate', 'authenticate', 'authenticate']);
  assert.match(errors[0][1], /[Cc]onnection/);
  for (const wrong of [
    () => accept({ user: 'x', headers: 'a: b' }), () => accept({ user: 'x', headers: { a: {} } }), () => accept({ user: 'x', headers: [['a']] }),
    () => accept({ user: 'x', headers: (function* () { for (;;) yield ['a', 'b']; })() }), () => accept({ user: 'x', subprotocol: 5 }), () => reject(401, 'no'), () => reject(401, { status: 5 }), () => reject(401, { body: {} }),
  ]) {
    assert.throws(wrong, { code: 'invalid_argument' });
  }
});

test('request.signal aborts when the peer leaves, and not when it is answered', async (t) => {
  let asked;
  const came = new Promise((resolve) => (asked = resolve));
  const server = await start(t, { auth: 'callback', authenticate: (request) => new Promise((resolve) => asked({ request, resolve })) });
  const peer = net.connect({ port: Number(server.address.split(':')[1]), host: '127.0.0.1' });
  peer.write(handshake());
  const { request, resolve } = await came;
  const { signal } = request;
  assert.equal(signal.aborted, false);
  peer.destroy();
  await once(signal, 'abort');
  assert.equal(signal.reason.code, 'handshake_gone');
  resolve(accept({ user: 'late' }));
});

test('rooms, users and ids', async (t) => {
  const { server, clients, conns } = await among(t, ['alice', 'bob', 'alice', 'carol']);
  const [alice, bob, second, carol] = conns;
  for (const conn of [alice, bob]) conn.join('a');
  for (const conn of [bob, second]) conn.join('b');
  const both = server.to('a', 'b');
  assert.deepEqual(both.members().map(({ id }) => id).sort(), [alice, bob, second].map(({ id }) => id).sort());
  assert.deepEqual([both.size, both.except(bob).size, server.to('a').size, server.to('none').size, server.toAll().size], [3, 2, 2, 0, 4]);
  both.emit('said', 1);
  server.toUser('alice').emit('private', 2);
  server.to('a', 'b').except(alice, second).emit('bob', 3);
  server.toAll().emit('end');
  const heard = [];
  for (const client of clients) {
    const names = [];
    for (let event; event !== 'end';) names.push((event = (await client.message()).event));
    heard.push(names.slice(0, -1));
  }
  assert.deepEqual(heard, [['said', 'private'], ['said', 'bob'], ['said', 'private'], []]);
  assert.deepEqual(server.connectionsOf('alice').map(({ id }) => id).sort(), [alice.id, second.id].sort());
  assert.deepEqual([server.get(bob.id), server.get('no'), server.get(`0${bob.id}`), server.get('')], [bob, undefined, undefined, undefined]);
  server.to('a').clear();
  assert.deepEqual([server.to('a').size, bob.rooms, server.stats().rooms], [0, ['b'], 1]);
  server.to('b').close(4000, 'over');
  assert.deepEqual([await clients[1].closed, await clients[2].closed], [{ code: 4000, reason: 'over' }, { code: 4000, reason: 'over' }]);
  assert.equal(server.get(bob.id), undefined);
  assert.deepEqual(server.connectionsOf('bob'), []);
  assert.equal(carol.isOpen, true);
  for (const [code, reason] of [[5], [1005], [1006], [1000.5], [NaN], ['1000'], [1000, 5], [1000, 'x'.repeat(124)], [1000, '\ud800']]) {
    for (const closed of [server.to('nobody'), server.toAll(), alice]) assert.throws(() => closed.close(code, reason), { code: 'invalid_argument' });
  }
  assert.equal(alice.close(), undefined);
  assert.throws(() => new Server(policy()).disconnectUser('x'), { code: 'not_started' });
  for (const wrong of [() => server.to(), () => server.to('a', 5), () => server.toUser(), () => server.toUser('a', 'b'), () => server.toAll().clear(), () => server.get(5), () => server.connectionsOf('')]) {
    assert.throws(wrong, { code: 'invalid_argument' });
  }
});

test('the connections of a user, as they come and go, whoever listens', async (t) => {
  const server = await start(t, { auth: tokens, protocol: 'raw' });
  const first = await connect(server, { user: 'alice' });
  await until(() => server.connectionsOf('alice').length === 1);
  const [conn] = server.connectionsOf('alice');
  await Promise.all([connect(server, { user: 'bob' }), connect(server, { user: 'alice' })]);
  await until(() => server.connectionsOf('alice').length === 2);
  await first.close();
  await until(() => server.connectionsOf('alice').length === 1);
  assert.deepEqual([server.connectionsOf('alice').includes(conn), server.toUser('alice').size, server.toAll().size], [false, 1, 2]);
  server.toUser('alice').close();
  assert.deepEqual([server.connectionsOf('alice'), server.toUser('bob').except(...server.connectionsOf('bob')).size], [[], 0]);
});

test('call: an answer, an error, none in time, and the end', async (t) => {
  const { conns: [conn], clients: [client], server } = await among(t, ['alice'], { events: { confirm: { schema: z.object({ n: z.number().transform((n) => n + 1) }) }, other: {} } });
  server.on('confirm', (_conn, data) => assert.fail(`an answer is no event: ${JSON.stringify(data)}`));
  const answer = async (call, data, more) => client.reply(await client.expect('confirm'), data, more);
  const first = conn.call('confirm', { ask: 1 });
  await answer(first, { n: 1 });
  assert.deepEqual(await first, { n: 2 });
  const refused = conn.call('confirm');
  const failed = assert.rejects(refused, (error) => error.code === 'call_refused' && error.data.n === 5);
  await answer(refused, { n: 5 }, { status: 'error' });
  await failed;
  await assert.rejects(conn.call('confirm', 1, { timeoutMs: 20 }), { code: 'call_timeout', message: /within 20 ms/ });
  await answer(undefined, { n: 7 });
  const heard = once(server, 'other');
  client.emit('other', 1, { id: 's1' });
  assert.equal((await heard)[2].id, 's1', 'a request of the peer is none of our answers');
  await Promise.all([[5n, {}], [1, { timeoutMs: -1 }], [1, { timeout: 1 }], [1, 5]].map(([data, options]) => assert.rejects(conn.call('x', data, options), { code: 'invalid_argument' })));
  await assert.rejects(conn.call(''), { code: 'invalid_argument' });
  await assert.rejects(conn.ping({ timeoutMs: 5 }), { code: 'invalid_argument', message: /ping takes nothing/ });
  const patient = conn.call('confirm', 1, { timeoutMs: 2 ** 40 });
  await answer(patient, { n: 8 });
  assert.deepEqual(await patient, { n: 9 });
  const many = Array.from({ length: 1024 }, () => assert.rejects(conn.call('confirm'), { code: 'connection_closed' }));
  await assert.rejects(conn.call('confirm'), { code: 'too_many_calls' });
  conn.close();
  await Promise.all(many);
  await assert.rejects(conn.call('confirm'), { code: 'connection_closed' });
});

test('the first answer of a call is the only one that is judged, while it is', async (t) => {
  const asked = [];
  const schema = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => new Promise((resolve) => asked.push({ value, refuse: () => resolve({ issues: [{}] }), take: () => resolve({ value }) })),
      jsonSchema: { input: () => ({}) },
    },
  };
  const { conns: [conn], clients: [client], server } = await among(t, ['alice'], { events: { confirm: { schema, onMismatch: 'reply' }, echo: {} } });
  server.on('echo', (_conn, _data, meta) => void conn.reply(meta, 'echo'));
  const call = conn.call('confirm', 1);
  const { id } = await client.expect('confirm');
  const answer = (data, status = 'ok') => client.emit('confirm', data, { id, status });
  answer('x'.repeat(1000));
  await until(() => asked.length === 1);
  for (let at = 1; at < 100_000; at += 1) answer(at, at % 2 ? 'ok' : 'error');
  // Its answer is behind all that.
  await client.request('echo', undefined, { timeoutMs: 60_000 });
  assert.equal(asked.length, 1);
  assert.ok(server.stats().inboxBytes > 1000, 'what is judged counts');
  // It is refused, and the peer is told: another one may come.
  asked[0].refuse();
  await client.expect('confirm');
  await until(() => server.stats().inboxBytes === 0);
  answer('yes');
  await until(() => asked.length === 2);
  asked[1].take();
  assert.equal(await call, 'yes');
  // One that comes late is not judged, nor one to a call whose time is over; and what is judged is given back.
  answer('late');
  const late = conn.call('confirm', 2, { timeoutMs: 30 });
  client.reply(await client.expect('confirm'), 'never judged');
  await assert.rejects(late, { code: 'call_timeout' });
  await until(() => asked.length === 3);
  await until(() => server.stats().inboxBytes === 0);
  assert.deepEqual(asked.map(({ value }) => value.slice(0, 5)), ['xxxxx', 'yes', 'never']);
});

test('an answer whose schema ends the connection is given back', async (t) => {
  let isJudged = false;
  const schema = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate(value) {
        isJudged = true;
        conn.close(4000);
        return Promise.resolve({ value });
      },
      jsonSchema: { input: () => ({}) },
    },
  };
  const { conns: [conn], clients: [client], server } = await among(t, ['alice'], { events: { confirm: { schema } } });
  const call = conn.call('confirm');
  client.reply(await client.expect('confirm'), 'x'.repeat(1000));
  await assert.rejects(call, { code: 'connection_closed' });
  assert.equal((await client.expectClose()).code, 4000);
  assert.ok(isJudged);
  await until(() => server.stats().inboxBytes === 0);
});

test('get finds whoever connections lists, also where the core has closed one', async (t) => {
  const server = await start(t, { events: { now: {}, look: {}, end: {} }, closeTimeoutMs: 10 });
  const [host, port] = server.address.split(':');
  const frame = (opcode, text) => Buffer.from([0x80 | opcode, 0x80 | text.length, 0, 0, 0, 0, ...Buffer.from(text)]);
  const peers = Array.from({ length: 3 }, () => net.connect(Number(port), host).resume());
  t.after(() => peers.forEach((peer) => peer.destroy()));
  for (const peer of peers) peer.write(handshake());
  await until(() => server.toAll().size === 3);
  const [alice, bob, carol] = peers;
  const say = (peer, event) => peer.write(frame(1, JSON.stringify({ event })));
  const found = [];
  // Then closes come as soon as messages do.
  server.on('close', () => {});
  server.on('end', () => {});
  server.on('look', () => [...server.connections].forEach((conn) => found.push(server.get(conn.id) === conn)));
  server.on('now', () => {
    // All of it is in the core before this returns: the close between two messages, so that they come together.
    const { messagesIn, open } = server.stats();
    say(bob, 'look');
    while (server.stats().messagesIn === messagesIn);
    alice.write(frame(8, ''));
    while (server.stats().open === open);
    say(carol, 'end');
    while (server.stats().messagesIn === messagesIn + 1);
  });
  say(bob, 'now');
  await until(() => found.length > 0);
  assert.deepEqual(found, [true, true, true]);
});

test('call in open does not wait for itself', async (t) => {
  const server = await start(t, { events: { hello: {}, say: {} } });
  const heard = [];
  server.on('open', async (conn) => {
    conn.data = await conn.call('hello');
  });
  server.on('say', (conn, data) => void heard.push([conn.data, data]));
  const client = await connect(server);
  client.emit('say', 1);
  client.reply(await client.expect('hello'), 'me');
  await until(() => heard.length === 1);
  assert.deepEqual(heard, [['me', 1]]);
});

test('errors to a message, of the application and of its schema', async (t) => {
  const schema = z.object({ at: z.string().refine((text) => text !== 'bad') });
  const server = await start(t, { events: { go: { schema, onMismatch: 'reply' }, plain: {} } });
  server.on('go', (conn, data, meta) => conn.replyError(meta, 'go', { code: 'busy' }));
  server.on('plain', (conn, _data, meta) => conn.replyError(meta, 'plain'));
  const client = await connect(server);
  assert.deepEqual(await client.request('go', { at: 'x' }), { event: 'go', data: { code: 'busy' }, status: 'error', id: 'test-1' });
  const { status, data } = await client.request('go', { at: 'bad' });
  assert.deepEqual([status, data.code], ['error', 'schema_mismatch']);
  client.emit('plain');
  assert.deepEqual(await client.expect('plain'), { event: 'plain', data: null, status: 'error' });
  assert.equal(server.stats().verdicts.schema_mismatch, 1);
});

test('ping, buffered bytes, terminate, and the verdict of a close', async (t) => {
  const { server, conns, clients } = await among(t, ['alice', 'bob', 'carol'], { protocol: 'raw', maxOutboxBytes: 10_000_000 });
  const [alice, bob, carol] = conns;
  const closes = new Map();
  server.on('close', (conn, code, { verdict }) => closes.set(conn, [code, verdict]));
  const rtts = await Promise.all([alice.ping(), alice.ping()]);
  assert.ok(rtts.every((rtt) => rtt > 0 && rtt < 5000), String(rtts));
  assert.equal(alice.bufferedAmount, 0);
  bob.pause();
  const unanswered = Array.from({ length: 16 }, () => assert.rejects(bob.ping(), { code: 'connection_closed' }));
  await assert.rejects(bob.ping(), { code: 'invalid_argument', message: /16 pings/ });
  bob.terminate();
  bob.terminate();
  assert.deepEqual([bob.isOpen, bob.send('x'), bob.bufferedAmount], [false, 'closed', 0]);
  await Promise.all(unanswered);
  assert.equal((await clients[1].closed).code, 1006);
  await assert.rejects(bob.ping(), { code: 'connection_closed' });
  server.disconnectUser('carol');
  await clients[0].close();
  await until(() => closes.size === 3);
  assert.deepEqual([closes.get(alice), closes.get(bob), closes.get(carol)], [[1000, null], [1006, null], [1008, 'session_revoked']]);
  assert.equal((await carol.closed).verdict, 'session_revoked');
  assert.equal(carol.signal.reason.verdict, 'session_revoked');
});

test('what waits for a slow reader is told', async (t) => {
  const { conns: [conn] } = await (async () => {
    const server = await start(t, { protocol: 'raw', maxOutboxBytes: 50_000_000 });
    const conns = [];
    server.on('open', (one) => void conns.push(one));
    const client = await Client.connect(server.address);
    client.socket.pause();
    await until(() => conns.length === 1);
    return { conns };
  })();
  while (conn.send(Buffer.alloc(1_000_000)) !== 'queued') await new Promise(setImmediate);
  assert.ok(conn.bufferedAmount > 0 && conn.bufferedAmount < 50_000_000, String(conn.bufferedAmount));
});

test('the log goes to a function, once, and may be JSON', async () => {
  const { out, code } = await run('log-hook.mjs');
  assert.equal(code, 0);
  const told = JSON.parse(out);
  assert.deepEqual([told.level, told.target, told.code, told.second], ['warn', 'wsguard::verdict', 'origin_denied', 'already_logging']);
  // A peer that makes the listener fail must not fill standard error.
  assert.ok(told.printed > 0 && told.printed < told.count / 2, out);
  const { err } = await run('refuses-one.mjs', { args: ['json'] });
  const records = err.trim().split('\n').map((line) => JSON.parse(line));
  assert.ok(records.some((record) => record.code === 'origin_denied'), err);
});

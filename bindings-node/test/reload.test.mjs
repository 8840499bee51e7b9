// A policy that changes while the server runs, and one that differs by path.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import net from 'node:net';
import { test } from 'node:test';
import { z } from 'zod';
import { Server, accept, reject } from '../index.mjs';
import { Client, handshake, policy, start, until } from './harness.mjs';

const require = createRequire(import.meta.url);
const { isOf } = require('../lib/bans.js');
const { NativeServer } = require('../lib/native.js').load();

const twice = z.number().transform((number) => number * 2);

test('each route has its own events and schemas, and its messages reach the handlers of their names', async (t) => {
  const server = await start(t, {
    events: { zoom: {}, say: { schema: z.string() } },
    routes: {
      '/numbers': { events: { say: { schema: twice }, add: {} } },
      '/room/{name}': {},
      '/raw': { protocol: 'raw' },
    },
  });
  const heard = [];
  for (const event of ['zoom', 'say', 'add']) server.on(event, (conn, data) => heard.push([conn.route, event, data]));
  server.on('message', (conn, data) => conn.send(`${conn.route} ${data}`));
  const numbers = await Client.connect(server.address, { path: '/numbers' });
  const conns = [];
  server.on('open', (conn) => void conns.push(conn));
  const room = await Client.connect(server.address, { path: '/room/%61%2Fb' });
  const raw = await Client.connect(server.address, { path: '/raw' });
  for (const [client, event, data] of [[numbers, 'say', 21], [numbers, 'add', 1], [room, 'say', 'x'], [room, 'zoom', 2]]) {
    client.emit(event, data);
    const count = heard.length;
    while (heard.length === count) await new Promise(setImmediate);
  }
  assert.deepEqual(heard, [
    ['/numbers', 'say', 42], ['/numbers', 'add', 1], ['/room/{name}', 'say', 'x'], ['/room/{name}', 'zoom', 2],
  ]);
  const conn = conns.find(({ route }) => route === '/room/{name}');
  assert.deepEqual({ ...conn.params }, { name: 'a/b' });
  assert.throws(() => conn.send('x'), { code: 'invalid_argument' });
  assert.ok(Object.isFrozen(conn.params) && Object.isFrozen(conn.roles));
  raw.send('hello');
  assert.equal(await raw.message(), '/raw hello');
  server.toAll().except(conn).send('to all');
  assert.equal(await raw.message(), 'to all');
  room.emit('add', 1);
  assert.deepEqual(await room.closed, { code: 1008, reason: 'unknown event' });
});

for (const [name, routes, option] of [
  ['an option of the process', { '/a': { threads: 2 } }, 'routes./a.threads'],
  ['an unknown option', { '/a': { max_fragments: 2 } }, 'routes./a.max_fragments'],
  ['a callback of its own', { '/a': { authenticate: () => {} } }, 'routes./a.authenticate'],
  ['no object', { '/a': 5 }, 'routes./a'],
  ['a list', [], 'routes'],
  ['NaN', { '/a': { maxFragments: NaN } }, 'routes./a.maxFragments'],
  ['an audience that is undefined', { '/a': { auth: { jwt: { algorithms: ['HS256'], key: 'x'.repeat(32), audience: undefined } } } }, 'routes./a.auth.jwt.audience'],
  ['a schema that the core cannot enforce', { '/a': { events: { e: { schema: z.string().regex(/(?=x)/) } } } }, 'routes./a.events.e.schema'],
  ['a callback and no function', { '/a': { auth: 'callback' } }, 'authenticate'],
]) {
  test(`a route with ${name} is refused`, () => {
    assert.throws(() => new Server(policy({ routes })), (error) => error.option === option || assert.equal(error.option, option));
  });
}

test('reload: handlers, schemas and limits of before and after', async (t) => {
  const server = await start(t, { events: { b: {}, say: { schema: z.string() } } });
  assert.throws(() => new Server(policy()).reload(policy()), { code: 'not_started' });
  const heard = [];
  const hear = (event) => server.on(event, (_conn, data) => heard.push([event, data]));
  for (const event of ['b', 'say']) hear(event);
  const client = await Client.connect(server.address);
  const say = async (event, data) => {
    const before = heard.length;
    client.emit(event, data);
    while (heard.length === before) await new Promise(setImmediate);
  };
  await say('b', 1);
  assert.throws(() => server.on('a', () => {}), { code: 'invalid_argument' });
  assert.equal(server.reload(policy({ events: { a: {}, say: { schema: twice }, close: {} }, maxOutboxBytes: 1000 })), 2);
  hear('a');
  server.onEvent('close', (_conn, data) => heard.push(['close', data]));
  await say('a', 2);
  await say('say', 4);
  await say('close', 5);
  assert.deepEqual(heard, [['b', 1], ['a', 2], ['say', 8], ['close', 5]]);
  assert.throws(() => server.toAll().emit('x', 'x'.repeat(1000)), { code: 'invalid_argument' }, 'by the new maxOutboxBytes');
  for (const [options, code, option] of [
    [policy({ events: {}, threads: 2 }), 'not_reloadable', 'threads'],
    [policy({ maxConection: 1 }), 'unknown_option', 'maxConection'],
    [policy({ auth: 'callback' }), 'missing_option', 'authenticate'],
    [{ ...policy(), origins: undefined }, 'missing_option', 'origins'],
  ]) {
    assert.throws(() => server.reload(options), { code, option });
  }
  await say('say', 1);
  assert.deepEqual(heard.at(-1), ['say', 2], 'nothing has changed');
  client.emit('b');
  assert.equal((await client.closed).code, 1008);
});

test('reload: whose token is gone is closed, and another function authenticates', async (t) => {
  const server = await start(t, { auth: { tokens: [{ token: 'a', user: 'alice', roles: ['x', 'y'] }, { token: 'b', user: 'bob' }] } });
  const conns = [];
  server.on('open', (conn) => void conns.push(conn));
  const alice = await Client.connect(server.address, { headers: { 'x-auth-token': 'a' } });
  const bob = await Client.connect(server.address, { headers: { 'x-auth-token': 'b' } });
  await until(() => conns.length === 2);
  assert.deepEqual(conns.map(({ roles }) => roles), [['x', 'y'], []]);
  server.reload(policy({ auth: { tokens: [{ token: 'b', user: 'bob' }] } }));
  assert.deepEqual(await alice.closed, { code: 1008, reason: 'session revoked' });
  const authenticate = (request) => (request.token === 'c' ? accept({ user: 'carol', roles: ['admin'] }) : reject());
  const { auth: _, ...rest } = policy({ authenticate });
  server.reload(rest);
  assert.deepEqual(await bob.closed, { code: 1008, reason: 'session revoked' });
  await Client.connect(server.address, { headers: { 'x-auth-token': 'c' } });
  await until(() => conns.length === 3);
  const [, , conn] = conns;
  assert.deepEqual([conn.user, ...conn.roles], ['carol', 'admin']);
});

test('events for roles', async (t) => {
  const server = await start(t, {
    authenticate: (request) => accept({ user: 'alice', roles: request.token === 'root' ? ['admin'] : undefined }),
    auth: 'callback',
    events: { wipe: { roles: ['admin'] } },
  });
  server.on('wipe', (conn, _data, meta) => conn.reply(meta, 'wiped'));
  const [root, alice] = [await Client.connect(server.address, { headers: { 'x-auth-token': 'root' } }), await Client.connect(server.address)];
  for (const client of [root, alice]) client.emit('wipe');
  assert.equal((await root.event()).event, 'wiped');
  assert.deepEqual(await alice.closed, { code: 1008, reason: 'event denied' });
  for (const roles of ['admin', [5], [undefined], [, 'a'], {}]) assert.throws(() => accept({ user: 'x', roles }), { code: 'invalid_argument' });
});

test('roles that the core refuses are an error, and a 503', async (t) => {
  const server = await start(t, { auth: 'callback', authenticate: () => accept({ user: 'x', roles: ['a b'] }) });
  const failed = once(server, 'error');
  assert.equal(await Client.refused(server.address), 503);
  const [error, conn, event] = await failed;
  assert.match(error.message, /roles/);
  assert.deepEqual([error.code, conn, event], ['invalid_argument', undefined, 'authenticate']);
});

test('ban: closes, refuses, and lets nothing through that was received before', async (t) => {
  const server = await start(t, { protocol: 'raw', auth: { tokens: [{ token: 'a', user: 'alice' }, { token: 'b', user: 'bob' }] } });
  const client = (token) => Client.connect(server.address, { headers: { 'x-auth-token': token } });
  const [alice, bob] = [await client('a'), await client('b')];
  const heard = [];
  server.on('message', (conn, data) => {
    heard.push(data);
    if (conn.user === 'alice') server.ban({ user: 'alice', forMs: 60_000, reason: 'as asked' });
    if (data === 'me') server.ban({ ip: conn.ip });
  });
  for (const text of ['1', '2', '3']) alice.send(text);
  assert.deepEqual(await alice.closed, { code: 1008, reason: 'banned' });
  assert.deepEqual(heard, ['1']);
  assert.equal(await Client.refused(server.address, { headers: { 'x-auth-token': 'a' } }), 403);
  const [ban, ...others] = server.bans();
  assert.ok(Math.abs(ban.endsAtMs - Date.now() - 60_000) < 30_000);
  assert.deepEqual([{ ...ban, endsAtMs: 0 }, others], [{ ip: null, user: 'alice', endsAtMs: 0, reason: 'as asked', isAutomatic: false }, []]);
  assert.deepEqual([server.unban({ user: 'alice' }), server.unban({ user: 'alice' })], [true, false]);
  await client('a');
  bob.send('me');
  assert.deepEqual(await bob.closed, { code: 1008, reason: 'banned' });
  assert.deepEqual(server.bans().map(({ ip, endsAtMs }) => [ip, endsAtMs]), [['127.0.0.1', null]]);
  assert.equal(server.unban({ ip: '127.0.0.1' }), true);
  for (const wrong of [undefined, {}, { ip: '::1', user: 'x' }, { ip: 5 }, { ip: 'x' }, { user: '' }, { user: 'x', forMs: 0 }, { user: 'x', forMs: '5' }, { user: 'x', why: '' }, { user: 'x', reason: 5 }]) {
    assert.throws(() => server.ban(wrong), { code: 'invalid_argument' }, JSON.stringify(wrong));
  }
});

test('ban: the core is asked about no connection of another address or user', async (t) => {
  const asked = [];
  const meant = (whom, ip) => isOf(whom, (one) => asked.push(one) > 0)({ ip });
  assert.deepEqual([meant('10.0.0.1', '10.0.0.1'), meant('10.0.0.1', '10.0.0.2'), meant('10.0.0.1', null)], [true, false, false]);
  assert.deepEqual(asked, []);
  const networks = [
    ['10.0.0.5/8', '10.255.0.2', '11.0.0.2'], ['192.0.2.128/25', '192.0.2.255', '192.0.2.127'], ['0.0.0.0/0', '255.0.0.1', null],
    ['10.0.0.1/32', '10.0.0.1', '10.0.0.2'], ['2001:db8::', '2001:db8::1:1', '2001:db8:0:1::'], ['2001:db8::7/128', '2001:db8::7', '2001:db8::8'],
    ['fe80::/10', 'fe80::1', '10.0.0.1'],
  ];
  for (const [whom, one, other] of networks) assert.deepEqual([meant(whom, one), meant(whom, other)], [true, false], whom);
  assert.deepEqual(asked, []);
  // What may stand for an address of IPv4 only the core knows.
  assert.deepEqual([meant('10.0.0.1', '64:ff9b::a00:1'), meant('::ffff:10.0.0.1', '10.0.0.1'), meant('::ffff:10.0.0.1', null)], [true, true, false]);
  assert.deepEqual(asked, ['64:ff9b::a00:1', '10.0.0.1']);
  // Of a user not even that is asked which the ban may have outlived.
  const server = await start(t, { protocol: 'raw', auth: { tokens: [{ token: 'a', user: 'alice' }, { token: 'b', user: 'bob' }] } });
  const client = (token) => Client.connect(server.address, { headers: { 'x-auth-token': token } });
  const [alice, bob] = [await client('a'), await client('b')];
  // Both are known.
  assert.equal(server.toAll().size, 2);
  const before = NativeServer.prototype.isBanned;
  t.after(() => (NativeServer.prototype.isBanned = before));
  let asks = 0;
  NativeServer.prototype.isBanned = () => (asks += 1) < 0;
  server.ban({ user: 'alice', forMs: 1 });
  assert.deepEqual([[...server.connections].map(({ user }) => user), asks], [['bob'], 0]);
  assert.equal((await alice.closed).reason, 'banned');
  assert.equal((await bob.close(1000)).code, 1000);
});

/** A peer that opens and says `message`, all of it read by the core before this returns: JavaScript, which is in a handler, has heard nothing. */
function unheard(server, alice, head, path, message) {
  const before = server.stats().messagesIn;
  const payload = Buffer.from(message);
  alice.write(Buffer.concat([Buffer.from(handshake(head, path)), Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]));
  while (server.stats().messagesIn === before);
}

async function rawPeer(server) {
  const [host, port] = server.address.split(':');
  const peer = net.connect(Number(port), host).resume();
  await once(peer, 'connect');
  return peer;
}

for (const [name, after] of [['', () => {}], [', also of a ban that was lifted at once', (server) => server.unban({ user: 'alice' })]]) {
  test(`ban: whoever was let in before it, and is heard of behind it, stays out${name}`, async (t) => {
    const server = await start(t, { protocol: 'raw', auth: { tokens: [{ token: 'a', user: 'alice' }, { token: 'b', user: 'bob' }] }, closeTimeoutMs: 10 });
    const heard = [];
    server.on('open', (conn) => void heard.push(`open ${conn.user}`));
    const alice = await rawPeer(server);
    server.on('message', (conn, data) => {
      heard.push(`${conn.user} ${data}`);
      if (data !== 'now') return;
      unheard(server, alice, 'X-Auth-Token: a\r\n', '/', 'hello');
      server.ban({ user: 'alice' });
      after(server);
    });
    const bob = await Client.connect(server.address, { headers: { 'x-auth-token': 'b' } });
    bob.send('now');
    await once(alice, 'close');
    bob.send('end');
    await until(() => heard.includes('bob end'));
    assert.deepEqual(heard, ['open bob', 'bob now', 'bob end']);
  });
}

for (const ip of ['203.0.113.7', '203.0.113.0/24', '2001:db8::8', '2001:db8::/32']) {
  test(`ban of ${ip}: whoever was let in before it, and is heard of when it is over, stays out`, async (t) => {
    const server = await start(t, { protocol: 'raw', trustedProxies: ['127.0.0.1'], closeTimeoutMs: 10 });
    const heard = [];
    let over;
    server.on('open', (conn) => void heard.push(`open ${conn.ip}`));
    const alice = await rawPeer(server);
    const hers = ip.includes(':') ? '2001:db8::7' : '203.0.113.7';
    server.on('message', (conn, data) => {
      heard.push(`${conn.ip} ${data}`);
      if (data !== 'now') return;
      unheard(server, alice, `X-Forwarded-For: ${hers}\r\n`, '/', 'hello');
      server.ban({ ip });
      server.unban({ ip });
      over = Date.now();
    });
    const client = (from) => Client.connect(server.address, { headers: { 'x-forwarded-for': from } });
    const bob = await client('198.51.100.1');
    bob.send('now');
    await once(alice, 'close');
    bob.send('end');
    await until(() => heard.includes('198.51.100.1 end'));
    assert.deepEqual(heard, ['open 198.51.100.1', '198.51.100.1 now', '198.51.100.1 end']);
    // Who comes behind it comes in.
    await until(() => Date.now() > over);
    const again = await client(hers);
    again.send('again');
    await until(() => heard.includes(`${hers} again`));
  });
}

test('reload: what came before it, of a connection that is heard of behind it, is judged by the route of then', async (t) => {
  const said = (word) => ({ say: { schema: z.string().transform((text) => `${word} ${text}`) } });
  const before = { events: { ...said('top'), now: {} }, routes: { '/r': { events: said('before') } }, paths: ['/'] };
  const server = await start(t, before);
  const heard = [];
  server.on('say', (conn, data) => void heard.push([conn.route, data]));
  const alice = await rawPeer(server);
  server.on('now', () => {
    unheard(server, alice, '', '/r', JSON.stringify({ event: 'say', data: 'x' }));
    server.reload(policy({ ...before, routes: { '/{any}': { events: said('after') } } }));
  });
  const bob = await Client.connect(server.address);
  bob.emit('now');
  await until(() => heard.length === 1);
  assert.deepEqual(heard, [['/r', 'before x']]);
  alice.destroy();
});

test('metrics: while it runs, and when it has stopped; the admin listener says where it is', async (t) => {
  const server = await start(t, { adminListen: '127.0.0.1:0' });
  await Client.connect(server.address);
  const told = server.metrics();
  assert.match(told, /^wsguard_connections 1$/m);
  assert.match(told, /^# EOF\n$/m);
  const response = await fetch(`http://${server.adminAddress}/metrics`);
  assert.match(await response.text(), /wsguard_policy_generation 1/);
  await server.stop();
  assert.match(server.metrics(), /^wsguard_connections 0$/m);
  assert.throws(() => server.reload(policy()), { code: 'stopped' });
  assert.throws(() => server.ban({ user: 'x' }), { code: 'stopped' });
  assert.equal(new Server(policy()).adminAddress, undefined);
});

/** A schema of the application: a string or a number in the core, and to the application what `isRight` says. */
const judging = (isRight) => ({
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: (value) => (isRight(value) ? { value } : { issues: [{ message: 'no' }] }),
    jsonSchema: { input: () => ({ type: ['string', 'integer'] }) },
  },
});

test('a message that came before a reload is judged by the schema of before, and not by halves of two policies', async (t) => {
  const refusing = policy({ protocol: 'json', events: { a: { schema: judging((value) => value !== 'bad') }, go: {} } });
  const plain = policy({ protocol: 'json', events: { a: { schema: { type: 'integer' } }, go: {} } });
  for (const [first, second, data, ending] of [
    [refusing, plain, 'bad', { code: 1008, reason: 'schema mismatch' }],
    [plain, policy({ protocol: 'json', events: { a: { schema: judging((value) => value === 'other') }, go: {} } }), 5, undefined],
  ]) {
    const server = await start(t, first);
    const heard = [];
    server.on('go', () => void server.reload({ ...second, listen: first.listen }));
    server.on('a', (conn, value) => void heard.push(value));
    const client = await Client.connect(server.address);
    // One write: the core has judged both before JavaScript hears of the first.
    client.socket._socket.cork();
    client.emit('go');
    client.emit('a', data);
    client.socket._socket.uncork();
    if (ending !== undefined) assert.deepEqual(await client.closed, ending);
    await until(() => ending !== undefined || heard.length === 1);
    assert.deepEqual(heard, ending === undefined ? [data] : []);
  }
});

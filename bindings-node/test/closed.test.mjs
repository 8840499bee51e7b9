// Closed is closed: no handler runs for a connection that the application, or a rule, has ended. And order is order.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { acceptAnonymous } from '../index.mjs';
import { Client, fixture, handshake, start, turns, until } from './harness.mjs';

/** Sends messages in one packet. */
function together(client, messages) {
  client.socket._socket.cork();
  for (const message of messages) client.send(message);
  client.socket._socket.uncork();
}

const fifty = Array.from({ length: 50 }, (_, at) => `${at}`);
const TOKENS = { tokens: ['alice', 'bob'].map((user) => ({ token: user, user })) };
const as = (user) => ({ headers: { 'x-auth-token': user } });

for (const [name, end, code] of [
  ['disconnectUser', (conn, server) => server.disconnectUser(conn.user), 1008],
  ['close', (conn) => conn.close(4000, 'as asked'), 4000],
  ['a handler that throws', () => { throw new Error('as asked'); }, 1011],
]) {
  test(`nothing is handled after ${name}`, async (t) => {
    const server = await start(t, { protocol: 'raw', auth: TOKENS });
    const [handled, others, answers] = [[], [], []];
    server.on('error', () => {});
    server.on('message', (conn, data) => {
      if (conn.user === 'bob') return void others.push(data);
      handled.push(data);
      end(conn, server);
      answers.push(conn.isOpen, conn.send('x'), conn.send(Buffer.from('x')), [...server.connections].includes(conn));
    });
    server.on('message', (conn, data) => conn.user === 'alice' && handled.push(`second ${data}`));
    const closed = new Promise((resolve) => server.on('close', (...told) => resolve(told)));
    const [alice, bob] = [await Client.connect(server.address, as('alice')), await Client.connect(server.address, as('bob'))];
    together(alice, fifty);
    together(bob, fifty);
    const [conn, told] = await closed;
    assert.equal(told, code);
    assert.deepEqual([conn.user, conn.isOpen], ['alice', false]);
    await until(() => others.length === 50);
    assert.deepEqual(handled.filter((one) => !one.startsWith('second')), ['0']);
    if (name !== 'a handler that throws') assert.deepEqual(answers, [false, 'closed', 'closed', false]);
    else assert.deepEqual(handled, ['0']);
    assert.equal((await alice.closed).code, code);
  });
}

test('disconnectUser: nothing is handled of any connection of the user, not even of those not heard of', async (t) => {
  const server = await start(t, { protocol: 'raw', auth: TOKENS });
  const handled = [];
  server.on('message', (conn, data) => {
    handled.push(data);
    if (data !== 'now') return;
    // All that the others say is here, unheard.
    for (const alice of alices) alice.send('never handled');
    while (server.stats().messagesIn < 1 + alices.length);
    server.disconnectUser('alice');
  });
  const alices = [];
  for (let round = 0; round < 8; round += 1) alices.push(await Client.connect(server.address, as('alice')));
  const bob = await Client.connect(server.address, as('bob'));
  bob.send('now');
  await until(() => handled.length > 0);
  for (const alice of alices) assert.equal((await alice.closed).code, 1008);
  const again = await Client.connect(server.address, as('alice'));
  again.send('again');
  await until(() => handled.includes('again'));
  assert.deepEqual(handled, ['now', 'again']);
});

for (const [name, listens, between] of [
  ['in the next batch', true, 0],
  ['in the next batch, with nobody who listens to opens', false, 0],
  ['later in the same chunk', true, 3],
  ['later in the same chunk, with nobody who listens to opens', false, 3],
  ['in a later chunk of the same batch', true, 3000],
  ['in a later chunk of the same batch, with nobody who listens to opens', false, 3000],
]) {
  test(`disconnectUser: whoever was let in before it stays out, though that is heard of ${name}`, async (t) => {
    const server = await start(t, { protocol: 'raw', auth: TOKENS, closeTimeoutMs: 10 });
    const told = [];
    let isDisconnected = false;
    if (listens) server.on('open', (conn) => told.push(`open ${conn.user}`));
    server.on('message', (conn, message) => {
      const data = String(message);
      if (data !== 'x') told.push(`${conn.user} ${data}`);
      if (data === 'now') {
        // Nobody here can hear of what comes now: bytes of bob's (text and opens have chunks of their own), and alice, who
        // says something at once.
        bob.socket._socket.write('\x82\x81\0\0\0\0x'.repeat(between), 'latin1');
        while (server.stats().messagesIn < 1 + between);
        alice.write(`${handshake('X-Auth-Token: alice\r\n')}${'\x81\x85\0\0\0\0hello'}`, 'latin1');
        while (server.stats().messagesIn < 2 + between);
      }
      if (isDisconnected || data !== (between === 0 ? 'now' : 'x')) return;
      isDisconnected = true;
      server.disconnectUser('alice');
    });
    const bob = await Client.connect(server.address, as('bob'));
    const [host, port] = server.address.split(':');
    const alice = connect(Number(port), host).resume();
    await once(alice, 'connect');
    bob.send('now');
    await once(alice, 'close');
    // His answer, and what was read before it, is behind all that.
    bob.send('end');
    await until(() => told.includes('bob end'));
    const again = await Client.connect(server.address, as('alice'));
    again.send('again');
    await until(() => told.includes('alice again'));
    const opens = (user) => (listens ? [`open ${user}`] : []);
    assert.deepEqual(told, [...opens('bob'), 'bob now', 'bob end', ...opens('alice'), 'alice again']);
  });
}

test('what was read before a session expired is not handled after it', async (t) => {
  const server = await start(t, {
    protocol: 'raw',
    auth: 'callback',
    authenticate: () => acceptAnonymous({ expiresAtMs: Date.now() + 200 }),
  });
  const handled = [];
  server.on('message', (conn, data) => {
    handled.push([data, conn.isOpen]);
    const end = Date.now() + 250;
    while (Date.now() < end);
    handled.push(conn.isOpen, conn.send('late'));
  });
  const client = await Client.connect(server.address);
  together(client, ['first', 'second', 'third']);
  assert.deepEqual(await client.closed, { code: 1008, reason: 'session expired' });
  assert.deepEqual(handled, [['first', true], false, 'closed']);
});

/** A JWT that ends then. */
function tokenUntil(exp, key) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'alice', exp })}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

for (const listens of [true, false]) {
  test(`what was read before the exp of a JWT is not handled after it${listens ? '' : ', with nobody who listens to opens'}`, async (t) => {
    const key = 'k'.repeat(32);
    const schema = answering();
    const server = await start(t, {
      auth: { jwt: { algorithms: ['HS256'], key, leewayS: 0 } },
      events: { now: {}, wait: { schema } },
    });
    const told = [];
    if (listens) server.on('open', (conn) => told.push(`open ${conn.isOpen}`));
    server.on('wait', (conn, data) => told.push(`wait ${data}`));
    server.on('now', (conn, data) => {
      told.push(`now ${data}`);
      // All of it is here before the end, and looked at behind it.
      while (server.stats().messagesIn < 4);
      while (Date.now() < exp * 1000);
      told.push(conn.isOpen, conn.emit('late'));
    });
    const exp = Math.floor(Date.now() / 1000) + 2;
    const client = await Client.connect(server.address, { headers: { authorization: `Bearer ${tokenUntil(exp, key)}` } });
    client.emit('wait', 0);
    await until(() => schema.asked.length === 1);
    // Behind what waits these wait, too; the other connection's do not.
    together(client, [JSON.stringify({ event: 'now', data: 'waits' })]);
    const other = await Client.connect(server.address, { headers: { authorization: `Bearer ${tokenUntil(exp, key)}` } });
    together(other, [1, 2].map((data) => JSON.stringify({ event: 'now', data })));
    assert.deepEqual(await other.closed, { code: 1008, reason: 'session expired' });
    for (const { answer } of schema.asked) answer();
    assert.deepEqual(await client.closed, { code: 1008, reason: 'session expired' });
    await until(() => server.stats().inboxBytes === 0);
    await turns(20);
    assert.deepEqual(told.filter((one) => one !== 'open true'), ['now 1', false, 'closed']);
  });
}

test('nothing is handled after stop', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const [handled, answers] = [[], []];
  server.on('message', (conn, data) => {
    handled.push(data);
    conn.send('last');
    void server.stop();
    answers.push(conn.isOpen, conn.send('x'), [...server.connections].length);
  });
  const closed = once(server, 'close');
  const client = await Client.connect(server.address);
  together(client, fifty);
  const [conn] = await closed;
  assert.equal(await client.message(), 'last');
  assert.deepEqual([handled, answers, conn.isOpen], [['0'], [false, 'closed', 0], false]);
});

test('open and close are told in pairs', async (t) => {
  const server = await start(t, { protocol: 'raw', auth: TOKENS });
  const told = [];
  server.on('open', (conn) => {
    told.push(`open ${conn.path}`);
    conn.close(4001);
  });
  server.on('open', (conn) => told.push(`also ${conn.path}`));
  server.on('close', (conn) => told.push(`close ${conn.path}`));
  const client = await Client.connect(server.address, { ...as('alice'), path: '/a' });
  assert.equal((await client.closed).code, 4001);
  await until(() => told.length === 3);
  assert.deepEqual(told, ['open /a', 'also /a', 'close /a']);
});

/** A schema whose answers come when the test says so: `asked` are the messages that wait for one. Text is judged at once. */
function answering(result = (value) => ({ value })) {
  const asked = [];
  const validate = (value) => {
    if (typeof value === 'string') return result(value);
    return new Promise((resolve) => asked.push({ value, answer: () => resolve(result(value)) }));
  };
  return { asked, '~standard': { version: 1, vendor: 'test', jsonSchema: { input: () => ({}) }, validate } };
}

test('an asynchronous schema keeps the order of its connection, and of no other', async (t) => {
  const schema = answering();
  const server = await start(t, { events: { wait: { schema }, now: {} } });
  const told = [];
  for (const event of ['wait', 'now']) server.on(event, (conn, data) => void told.push(`${conn.path} ${data} ${conn.isOpen}`));
  server.on('close', (conn) => told.push(`${conn.path} close ${conn.isOpen}`));
  const [a, b] = [await Client.connect(server.address, { path: '/a' }), await Client.connect(server.address, { path: '/b' })];
  for (const data of [1, 2, 'text', 3]) a.emit('wait', data);
  a.emit('now', 'last');
  await until(() => server.stats().messagesIn === 5 && schema.asked.length > 0);
  for (let round = 0; round < 3; round += 1) b.emit('now', round);
  await until(() => told.length === 3);
  // Nothing of a's was judged so far; what was asked last is answered first.
  while (told.length < 8) {
    for (const { answer } of schema.asked.splice(0).reverse()) answer();
    await turns(1);
  }
  await a.close(1000);
  await b.close(1000);
  await until(() => told.length === 10);
  const of = (path) => told.filter((one) => one.startsWith(path)).map((one) => one.slice(3));
  assert.deepEqual(of('/a'), ['1 true', '2 true', 'text true', '3 true', 'last true', 'close false']);
  assert.deepEqual(of('/b'), ['0 true', '1 true', '2 true', 'close false']);
  assert.equal(server.stats().inboxBytes, 0);
});

for (const [name, end] of [
  ['a failed handler', () => { throw new Error('as asked'); }],
  ['a close', (conn) => conn.close()],
  ['disconnectUser', (conn, server) => server.disconnectUser(conn.user)],
]) {
  test(`after ${name} nothing that waits for its schema is handled`, async (t) => {
    const schema = answering();
    const server = await start(t, { auth: TOKENS, events: { wait: { schema } } });
    const told = [];
    server.on('error', () => {});
    server.on('wait', (conn, data) => {
      told.push(data);
      end(conn, server);
    });
    server.on('close', () => told.push('close'));
    const client = await Client.connect(server.address, as('alice'));
    for (const data of [1, 2, 3]) client.emit('wait', data);
    await until(() => server.stats().messagesIn === 3 && schema.asked.length === 1);
    schema.asked[0].answer();
    await client.closed;
    await until(() => told.includes('close'));
    for (const { answer } of schema.asked) answer();
    await turns(20);
    assert.deepEqual(told, [1, 'close']);
    assert.equal(server.stats().inboxBytes, 0);
  });
}

test('a refusal of the application\'s own schema ends what waits behind it; a judgement that fails is 1011', async (t) => {
  const refusing = answering((value) => (value === 7 ? { issues: [{ message: 'seven' }] } : { value }));
  const failing = { '~standard': { ...answering()['~standard'], validate: async () => { throw new Error('as asked'); } } };
  const server = await start(t, { events: { wait: { schema: refusing }, bad: { schema: failing } } });
  const [told, errors] = [[], []];
  server.on('wait', (_conn, data) => void told.push(data));
  server.on('bad', () => told.push('bad'));
  server.on('error', (error) => errors.push(error.message));
  const first = await Client.connect(server.address);
  for (const data of [15, 7, 1]) first.emit('wait', data);
  await until(() => server.stats().messagesIn === 3);
  while (first.socket.readyState === 1) {
    for (const { answer } of refusing.asked.splice(0)) answer();
    await turns(1);
  }
  assert.equal((await first.closed).code, 1008);
  const second = await Client.connect(server.address);
  second.emit('bad', 1);
  second.emit('wait', 1);
  assert.equal((await second.closed).code, 1011);
  for (const { answer } of refusing.asked) answer();
  await turns(20);
  assert.deepEqual([told, errors], [[15], ['as asked']]);
});

test('much that waits for its schema holds the peer back, and all of it is handled and counted, whatever becomes of its meta', async (t) => {
  const schema = answering();
  const server = await start(t, { events: { wait: { schema } } });
  const told = [];
  let most = 0;
  server.on('wait', (conn, data, meta) => {
    told.push(meta.id);
    meta.sizeBytes = 0;
    most = Math.max(most, server.stats().inboxBytes);
  });
  const client = await Client.connect(server.address);
  const count = 400;
  for (let id = 0; id < count; id += 1) client.emit('wait', 1, { id });
  while (told.length < count) {
    for (const { answer } of schema.asked.splice(0)) answer();
    await turns(1);
  }
  assert.deepEqual(told, Array.from({ length: count }, (_, id) => id));
  assert.ok(most > 0, 'what waits is not counted');
  await until(() => [...server.connections].length === 1);
  assert.equal(server.stats().inboxBytes, 0);
});

test('a schema that never answers does not keep the server from its end', { timeout: 30_000 }, async (t) => {
  const server = await start(t, { events: { wait: { schema: answering() } } });
  server.on('wait', () => {});
  const client = await Client.connect(server.address);
  client.emit('wait', 1);
  await until(() => server.stats().messagesIn > 0);
  await server.stop();
});

test('drained speaks of what was just said', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  let got = 0;
  client.socket.on('message', (data) => (got += data.length));
  for (const [chunk, count] of [[1 << 20, 12], [300_000, 20], [100_000, 40], [1000, 3000]]) {
    got = 0;
    for (let round = 0; round < count; round += 1) {
      const sent = conn.send(Buffer.alloc(chunk - 16));
      assert.notEqual(sent, 'closed', `chunk ${chunk}, round ${round}`);
      if (sent === 'queued') await conn.drained();
      if (chunk >= 1 << 20) await new Promise(setImmediate);
    }
    await until(() => got === (chunk - 16) * count);
  }
});

test('drained waits for a peer that does not read what was said in the same turn', async (t) => {
  const server = await start(t, { protocol: 'raw', maxOutboxBytes: 1 << 26 });
  const opened = once(server, 'open');
  const client = await Client.connect(server.address);
  const [conn] = await opened;
  client.socket.pause();
  // More than any kernel keeps.
  for (let round = 0; round < 40; round += 1) conn.send(Buffer.alloc(1 << 20));
  let isDrained = false;
  const waits = conn.drained().then(() => (isDrained = true));
  await turns(100);
  assert.equal(isDrained, false, 'nobody has read it');
  client.socket.resume();
  await waits;
});

for (const isOver of [false, true]) {
  test(`disconnectUser: what waits for its schema is not handled though its connection has closed${isOver ? ', and the core has ended' : ''}`, async (t) => {
    const schema = answering();
    const server = await start(t, { auth: TOKENS, events: { wait: { schema } } });
    const told = [];
    server.on('wait', (conn, data) => void told.push(`${conn.user} ${data}`));
    server.on('close', (conn) => told.push(`close ${conn.user}`));
    const [alice, bob] = [await Client.connect(server.address, as('alice')), await Client.connect(server.address, as('bob'))];
    for (const client of [alice, bob]) for (const data of [1, 2]) client.emit('wait', data);
    await until(() => schema.asked.length === 2 && server.stats().messagesIn === 4);
    await alice.close(1000);
    await bob.close(1000);
    await until(() => server.stats().open === 0);
    const end = isOver ? server.drain() : undefined;
    // Their closes are here, and wait behind the messages.
    await until(() => [...server.connections].length === 0);
    assert.deepEqual(told, []);
    server.disconnectUser('alice');
    assert.deepEqual(told, ['close alice']);
    while (!told.includes('close bob')) {
      for (const { answer } of schema.asked.splice(0)) answer();
      await turns(1);
    }
    assert.deepEqual(told, ['close alice', 'bob 1', 'bob 2', 'close bob']);
    await end;
    assert.equal(server.stats().inboxBytes, 0);
  });
}

test('one user whose messages wait for their schema does not fill the inbox that others need', { timeout: 30_000 }, async (t) => {
  const schema = answering();
  const server = await start(t, {
    auth: TOKENS,
    events: { wait: { schema }, echo: {} },
    maxInboxBytes: 1 << 20,
    maxConnectionsPerUser: 8,
    maxConnectionsPerIp: 16,
  });
  server.on('wait', () => {});
  server.on('echo', (conn, data, meta) => conn.reply(meta, 'echo', data));
  const bob = await Client.connect(server.address, as('bob'));
  const alices = await Promise.all(Array.from({ length: 8 }, () => Client.connect(server.address, as('alice'))));
  // Less than 64 messages each, and more than the inbox together.
  const filler = ['x'.repeat(4000)];
  for (let round = 0; round < 60; round += 1) {
    for (const alice of alices) alice.emit('wait', filler);
    // His answer says that this thread has taken what was read before.
    bob.emit('echo', round);
    assert.equal((await bob.event()).data, round);
  }
  await until(() => schema.asked.length === alices.length);
  const { inboxBytes } = server.stats();
  assert.ok(inboxBytes > 0 && inboxBytes < 1 << 19, `${inboxBytes} bytes wait`);
  let handled = 0;
  server.on('wait', () => (handled += 1));
  while (handled < 60 * alices.length) {
    for (const { answer } of schema.asked.splice(0)) answer();
    await turns(1);
  }
  assert.equal(server.stats().inboxBytes, 0);
});

for (const when of ['before', 'during']) {
  test(`a schema that never answers does not hold a drain beyond its time: a connection that closed ${when} it`, { timeout: 30_000 }, async (t) => {
    const server = await start(t, { events: { wait: { schema: answering() } } });
    const told = [];
    server.on('wait', () => told.push('wait'));
    server.on('close', () => told.push('close'));
    const client = await Client.connect(server.address);
    client.emit('wait', 1);
    await until(() => server.stats().messagesIn > 0);
    if (when === 'before') {
      await client.close(1000);
      await until(() => [...server.connections].length === 0);
    }
    const since = performance.now();
    await server.drain({ timeoutMs: 300 });
    const took = performance.now() - since;
    assert.ok(took < 5_000, `it took ${took} ms`);
    assert.deepEqual(told, ['close']);
  });
}

test('a drained that was on its way does not speak of what was said after it', { timeout: 30_000 }, async (t) => {
  const server = await start(t, { protocol: 'raw', maxOutboxBytes: 1 << 26 });
  const opened = once(server, 'open');
  const child = spawn(process.execPath, [fixture('reader.mjs'), server.address], { stdio: ['pipe', 'inherit', 'inherit'] });
  t.after(() => child.kill());
  const [conn] = await opened;
  let drained = 0;
  server.on('drained', () => (drained += 1));
  const fill = () => {
    for (let round = 0; round < 40; round += 1) conn.send(Buffer.alloc(1 << 20));
  };
  // In one turn: much, all of which is read, then much that is not.
  // A reader may be as fast as we are: it has to have something to wait for.
  let sent = 0;
  do {
    fill();
    sent += 40 << 20;
  } while (!conn.isQueued && sent < 2 ** 32);
  assert.equal(conn.isQueued, true);
  while (server.stats().bytesOut < sent || server.stats().outboxBytes > 0);
  for (const told = performance.now() + 50; performance.now() < told; );
  conn.send(`STOP${' '.repeat(100_000)}`);
  fill();
  const waits = conn.drained().then(() => 'drained');
  assert.equal(await Promise.race([waits, turns(100)]), undefined, 'nobody has read it');
  assert.deepEqual([conn.isQueued, drained], [true, 0]);
  child.stdin.write('on');
  assert.equal(await waits, 'drained');
  await turns(20);
  assert.deepEqual([conn.isQueued, drained], [false, 1]);
});

// Closed is closed: no handler runs for a connection that the application, or a rule, has ended. And order is order.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { acceptAnonymous } from '../index.mjs';
import { Client, ORIGIN, fixture, start } from './harness.mjs';

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
      answers.push(conn.isOpen, conn.send('x'), conn.send(Buffer.from('x')), conn.emit('x'), [...server.connections].includes(conn));
    });
    server.on('message', (conn, data) => conn.user === 'alice' && handled.push(`second ${data}`));
    const closed = new Promise((resolve) => server.on('close', (...told) => resolve(told)));
    const [alice, bob] = [await Client.connect(server.address, as('alice')), await Client.connect(server.address, as('bob'))];
    together(alice, fifty);
    together(bob, fifty);
    const [conn, told] = await closed;
    assert.equal(told, code);
    assert.deepEqual([conn.user, conn.isOpen], ['alice', false]);
    while (others.length < 50) await new Promise(setImmediate);
    assert.deepEqual(handled.filter((one) => !one.startsWith('second')), ['0']);
    if (name !== 'a handler that throws') assert.deepEqual(answers, [false, 'dropped', 'dropped', 'dropped', false]);
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
    // All that the others have said is here, or on its way.
    const end = performance.now() + 50;
    while (performance.now() < end);
    server.disconnectUser('alice');
  });
  const alices = [];
  for (let round = 0; round < 8; round += 1) alices.push(await Client.connect(server.address, as('alice')));
  const bob = await Client.connect(server.address, as('bob'));
  bob.send('now');
  while (handled.length === 0) await new Promise(setImmediate);
  for (const alice of alices) assert.equal((await alice.closed).code, 1008);
  const again = await Client.connect(server.address, as('alice'));
  again.send('again');
  while (!handled.includes('again')) await new Promise(setImmediate);
  assert.deepEqual(handled, ['now', 'again']);
});

test('disconnectUser: whoever was let in before it stays out, however late that is heard of', async (t) => {
  const server = await start(t, { protocol: 'raw', auth: TOKENS });
  const told = [];
  server.on('open', (conn) => told.push(`open ${conn.user}`));
  server.on('message', (conn, data) => {
    told.push(`${conn.user} ${data}`);
    if (data !== 'now') return;
    const busy = (ms) => {
      for (const end = performance.now() + ms; performance.now() < end; );
    };
    // She is let in while nobody here can hear of it, and says something.
    alice.write(`${head}${hello}`, 'latin1');
    busy(200);
    server.disconnectUser('alice');
    busy(5_200);
  });
  const bob = await Client.connect(server.address, as('bob'));
  const { connect } = await import('node:net');
  const [host, port] = server.address.split(':');
  const alice = connect(Number(port), host);
  await once(alice, 'connect');
  const head = `GET / HTTP/1.1\r\nHost: x\r\nOrigin: ${ORIGIN}\r\nX-Auth-Token: alice\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;
  const hello = '\x81\x85\0\0\0\0hello';
  bob.send('now');
  alice.resume();
  await once(alice, 'close');
  const again = await Client.connect(server.address, as('alice'));
  again.send('again');
  while (!told.includes('alice again')) await new Promise(setImmediate);
  assert.deepEqual(told, ['open bob', 'bob now', 'open alice', 'alice again']);
});

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
  assert.deepEqual(handled, [['first', true], false, 'dropped']);
});

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
  assert.deepEqual([handled, answers, conn.isOpen], [['0'], [false, 'dropped', 0], false]);
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
  while (told.length < 3) await new Promise(setImmediate);
  assert.deepEqual(told, ['open /a', 'also /a', 'close /a']);
});

/** A schema that answers after as many milliseconds as its data says; text is not delayed. */
const delaying = (more = () => ({})) => ({
  '~standard': {
    version: 1,
    vendor: 'test',
    jsonSchema: { input: () => ({}) },
    validate: (value) => (typeof value === 'number' ? sleep(value, undefined, { ref: value < 10_000 }).then(() => more(value).issues ? more(value) : { value }) : { value }),
  },
});

test('an asynchronous schema keeps the order of its connection, and of no other', async (t) => {
  const server = await start(t, { events: { wait: { schema: delaying() }, now: {} } });
  const told = [];
  for (const event of ['wait', 'now']) server.on(event, (conn, data) => void told.push(`${conn.path} ${data} ${conn.isOpen}`));
  server.on('close', (conn) => told.push(`${conn.path} close ${conn.isOpen}`));
  const [a, b] = [await Client.connect(server.address, { path: '/a' }), await Client.connect(server.address, { path: '/b' })];
  for (const data of [60, 10, 'text', 30]) a.emit('wait', data);
  a.emit('now', 'last');
  for (let round = 0; round < 3; round += 1) b.emit('now', round);
  await a.close(1000);
  await b.close(1000);
  while (told.filter((one) => one.includes('close')).length < 2) await sleep(5);
  const of = (path) => told.filter((one) => one.startsWith(path)).map((one) => one.slice(3));
  assert.deepEqual(of('/a'), ['60 true', '10 true', 'text true', '30 true', 'last true', 'close false']);
  assert.deepEqual(of('/b'), ['0 true', '1 true', '2 true', 'close false']);
  assert.ok(told.indexOf('/b 2 true') < told.indexOf('/a 60 true'), String(told));
  assert.equal(server.stats().inboxBytes, 0);
});

for (const [name, end] of [
  ['a failed handler', () => { throw new Error('as asked'); }],
  ['a close', (conn) => conn.close()],
  ['disconnectUser', (conn, server) => server.disconnectUser(conn.user)],
]) {
  test(`after ${name} nothing that waits for its schema is handled`, async (t) => {
    const server = await start(t, { auth: TOKENS, events: { wait: { schema: delaying() } } });
    const told = [];
    server.on('error', () => {});
    server.on('wait', (conn, data) => {
      told.push(data);
      end(conn, server);
    });
    server.on('close', () => told.push('close'));
    const client = await Client.connect(server.address, as('alice'));
    for (const data of [20, 5, 300]) client.emit('wait', data);
    await client.closed;
    while (!told.includes('close')) await sleep(5);
    await sleep(50);
    assert.deepEqual(told, [20, 'close']);
    assert.equal(server.stats().inboxBytes, 0);
  });
}

test('a refusal of the application\'s own schema ends what waits behind it; a judgement that fails is 1011', async (t) => {
  const refusing = delaying((value) => (value === 7 ? { issues: [{ message: 'seven' }] } : {}));
  const failing = { '~standard': { ...delaying()['~standard'], validate: async () => { throw new Error('as asked'); } } };
  const server = await start(t, { events: { wait: { schema: refusing }, bad: { schema: failing } } });
  const [told, errors] = [[], []];
  server.on('wait', (_conn, data) => void told.push(data));
  server.on('bad', () => told.push('bad'));
  server.on('error', (error) => errors.push(error.message));
  const first = await Client.connect(server.address);
  for (const data of [15, 7, 1]) first.emit('wait', data);
  assert.equal((await first.closed).code, 1008);
  const second = await Client.connect(server.address);
  second.emit('bad', 1);
  second.emit('wait', 1);
  assert.equal((await second.closed).code, 1011);
  await sleep(30);
  assert.deepEqual([told, errors], [[15], ['as asked']]);
});

test('much that waits for its schema holds the peer back, and all of it is handled', async (t) => {
  const server = await start(t, { events: { wait: { schema: delaying() } } });
  const told = [];
  let most = 0;
  server.on('wait', (conn, data, meta) => {
    told.push(meta.id);
    most = Math.max(most, server.stats().inboxBytes);
  });
  const client = await Client.connect(server.address);
  const count = 400;
  for (let id = 0; id < count; id += 1) client.emit('wait', 1, { id });
  while (told.length < count) await sleep(5);
  assert.deepEqual(told, Array.from({ length: count }, (_, id) => id));
  assert.ok(most > 0, 'what waits is not counted');
  assert.equal(server.stats().inboxBytes, 0);
});

test('a schema that never answers does not keep the server from its end', { timeout: 30_000 }, async (t) => {
  const server = await start(t, { events: { wait: { schema: delaying() } } });
  server.on('wait', () => {});
  const client = await Client.connect(server.address);
  client.emit('wait', 1_000_000);
  while (server.stats().messagesIn === 0) await sleep(5);
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
      assert.notEqual(sent, 'dropped', `chunk ${chunk}, round ${round}`);
      if (sent === 'queued') await conn.drained();
      if (chunk >= 1 << 20) await new Promise(setImmediate);
    }
    while (got < (chunk - 16) * count) await sleep(2);
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
  await sleep(30);
  assert.equal(isDrained, false, 'nobody has read it');
  client.socket.resume();
  await waits;
});

/** A schema whose answers come when the test says so; `asked` are the messages that wait for one. */
function answering() {
  const asked = [];
  const validate = (value) => new Promise((resolve) => asked.push({ value, answer: () => resolve({ value }) }));
  return { asked, '~standard': { version: 1, vendor: 'test', jsonSchema: { input: () => ({}) }, validate } };
}

for (const isOver of [false, true]) {
  test(`disconnectUser: what waits for its schema is not handled though its connection has closed${isOver ? ', and the core has ended' : ''}`, async (t) => {
    const schema = answering();
    const server = await start(t, { auth: TOKENS, events: { wait: { schema } } });
    const told = [];
    server.on('wait', (conn, data) => void told.push(`${conn.user} ${data}`));
    server.on('close', (conn) => told.push(`close ${conn.user}`));
    const [alice, bob] = [await Client.connect(server.address, as('alice')), await Client.connect(server.address, as('bob'))];
    for (const client of [alice, bob]) for (const data of [1, 2]) client.emit('wait', data);
    while (schema.asked.length < 2 || server.stats().messagesIn < 4) await sleep(5);
    await alice.close(1000);
    await bob.close(1000);
    while (server.stats().open > 0) await sleep(5);
    const end = isOver ? server.drain() : undefined;
    // Its close is here, and waits behind the messages.
    await sleep(100);
    assert.deepEqual(told, []);
    server.disconnectUser('alice');
    assert.deepEqual(told, ['close alice']);
    while (!told.includes('close bob')) {
      for (const { answer } of schema.asked.splice(0)) answer();
      await sleep(1);
    }
    assert.deepEqual(told, ['close alice', 'bob 1', 'bob 2', 'close bob']);
    await end;
    // The counters of a server that has ended are those of its core's last moment.
    if (!isOver) assert.equal(server.stats().inboxBytes, 0);
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
  const filler = 'x'.repeat(4000);
  for (let round = 0; round < 60; round += 1) {
    for (const alice of alices) alice.emit('wait', filler);
    // His answer says that this thread has taken what was read before.
    bob.emit('echo', round);
    assert.equal((await bob.event()).data, round);
    await sleep(2);
  }
  while (schema.asked.length < alices.length) await sleep(5);
  const { inboxBytes } = server.stats();
  assert.ok(inboxBytes > 0 && inboxBytes < 1 << 19, `${inboxBytes} bytes wait`);
  let handled = 0;
  server.on('wait', () => (handled += 1));
  while (handled < 60 * alices.length) {
    for (const { answer } of schema.asked.splice(0)) answer();
    await sleep(1);
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
    while (server.stats().messagesIn === 0) await sleep(5);
    if (when === 'before') {
      await client.close(1000);
      await sleep(50);
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
  fill();
  assert.equal(conn.isQueued, true);
  while (server.stats().bytesOut < 40 << 20 || server.stats().outboxBytes > 0);
  for (const told = performance.now() + 50; performance.now() < told; );
  conn.send(`STOP${' '.repeat(100_000)}`);
  fill();
  const waits = conn.drained().then(() => 'drained');
  assert.equal(await Promise.race([waits, sleep(300)]), undefined, 'nobody has read it');
  assert.deepEqual([conn.isQueued, drained], [true, 0]);
  child.stdin.write('on');
  assert.equal(await waits, 'drained');
  await sleep(20);
  assert.deepEqual([conn.isQueued, drained], [false, 1]);
});

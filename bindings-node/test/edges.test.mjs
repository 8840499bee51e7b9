// What is rare together: reloads under load, answers that are none, calls behind the end, worker threads.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { z } from 'zod';
import { accept } from '../index.mjs';
import { connect } from '../testing/index.mjs';
import { Client, fixture, policy, start, turns, until } from './harness.mjs';

const NAMES = Array.from({ length: 7 }, (_, at) => `e${at}`);

test('under load every message reaches the handler of its name, whatever the route and the generation', async (t) => {
  const options = (generation) => ({
    threads: 2,
    onViolation: 'report',
    paths: ['/'],
    events: Object.fromEntries(NAMES.slice(generation % 7).concat('e0').map((name) => [name, {}])),
    routes: { '/r': { events: { e6: {}, [NAMES[generation % 7]]: {} } } },
  });
  const server = await start(t, options(0));
  let [wrong, got] = [0, 0];
  for (const name of NAMES) {
    server.on(name, (_conn, data, meta) => {
      got += 1;
      if (data !== name || meta.event !== name) wrong += 1;
    });
  }
  const paths = ['/', '/r', '/', '/r'];
  const clients = await Promise.all(paths.map((path) => Client.connect(server.address, { path })));
  for (let generation = 1; generation < 40; generation += 1) {
    for (const client of clients) for (const name of [...NAMES, ...NAMES]) client.emit(name, name);
    assert.equal(server.reload(policy(options(generation))), generation + 1);
    await turns(1);
  }
  await until(() => server.stats().messagesIn === 39 * 14 * 4 && got === 39 * 14 * 4);
  assert.equal(wrong, 0);
});

test('getters that throw in options of accept, reject, call, ban', async (t) => {
  const boom = { get user() { throw new Error('boom'); } };
  assert.throws(() => accept(boom), /boom/);
  const server = await start(t, { auth: 'callback', authenticate: () => ({ get [Symbol.for('wsguard.accept')]() { throw new Error('boom'); } }) });
  const errors = [];
  server.on('error', (error) => errors.push(error.message));
  await assert.rejects(connect(server), { status: 503 });
  assert.deepEqual(errors, ['boom']);
  assert.throws(() => server.ban(boom), /boom/);
  assert.throws(() => server.reload({ get auth() { throw new Error('boom'); } }), /boom/);
});

test('calls behind the end of a connection, and of the server', async (t) => {
  const server = await start(t, { events: { a: {} } });
  const opened = once(server, 'open');
  const client = await connect(server);
  const [conn] = await opened;
  await client.close();
  await conn.closed;
  assert.deepEqual([conn.replyError({ id: 1 }, 'a'), conn.emit('a')], ['closed', 'closed']);
  conn.terminate();
  conn.close();
  conn.join('x');
  await assert.rejects(conn.call('a'), { code: 'connection_closed' });
  await server.stop();
  await assert.rejects(conn.ping(), { code: 'connection_closed' });
  assert.equal(server.to('x').size, 0);
  assert.deepEqual(server.connectionsOf('x'), []);
  assert.equal(server.get(conn.id), undefined);
  server.toUser('x').emit('a');
  conn.terminate();
  assert.throws(() => server.bans(), { code: 'stopped' });
});

test('onMismatch: "reply" with an asynchronous schema keeps the order', async (t) => {
  const schema = z.object({ n: z.number() }).refine(async ({ n }) => n !== 2);
  const server = await start(t, { events: { go: { schema, onMismatch: 'reply' } } });
  server.on('go', (conn, data, meta) => conn.reply(meta, 'go', data.n));
  const client = await connect(server);
  for (const n of [1, 2, 3]) client.emit('go', { n }, { id: n });
  const got = [];
  while (got.length < 3) {
    const { id, status } = await client.expect('go');
    got.push([id, status]);
  }
  assert.deepEqual(got, [[1, 'ok'], [2, 'error'], [3, 'ok']]);
});

test('open that never settles does not keep a drain', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  server.on('open', () => new Promise(() => {}));
  const client = await Client.connect(server.address);
  for (let at = 0; at < 200; at += 1) client.send('x');
  await until(() => server.stats().messagesIn > 60);
  const since = Date.now();
  await server.drain({ timeoutMs: 300 });
  assert.ok(Date.now() - since < 2000, String(Date.now() - since));
});

test('a call whose peer floods late and false answers', async (t) => {
  const server = await start(t, { events: { c: {} } });
  const opened = once(server, 'open');
  server.on('c', () => {});
  const client = await connect(server);
  const [conn] = await opened;
  const call = conn.call('c', 1, { timeoutMs: 500 });
  for (const id of ['s0', 's01', 's2', 's99999999999999999999', '~1', 1, 's1 ', 'S1']) client.emit('c', 1, { id, status: 'ok' });
  client.emit('c', 'right', { id: 's1', status: 'ok' });
  client.emit('c', 'again', { id: 's1', status: 'ok' });
  assert.equal(await call, 'right');
});

test('worker threads: each has a server with all of this', async () => {
  const workers = Array.from({ length: 3 }, () => new Worker(fixture('worker-with-all.mjs')));
  // Both at once: an exit may follow its message before anybody could listen for it.
  const ends = workers.map(async (worker) => {
    const [[isRight], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
    return [isRight, code];
  });
  assert.deepEqual(await Promise.all(ends), [[true, 0], [true, 0], [true, 0]]);
});

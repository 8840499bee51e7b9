// Several servers as one over a real Redis: what crosses, what is counted everywhere, and how questions end.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, after, test } from 'node:test';
import { Server } from '../index.mjs';
import { Client, policy, run, start, until } from './harness.mjs';
import { freePort, listenTo, missing, refusing, startRedis } from './own-redis.mjs';

const skip = missing;
const auth = { tokens: ['a', 'b'].map((user) => ({ token: user.repeat(32), user })) };
const as = (user) => ({ headers: { 'X-Auth-Token': user.repeat(32) } });
const ends = [];
let redis;
before(async () => {
  if (!skip) redis = await startRedis({ after: (end) => ends.push(end) });
});
after(async () => {
  for (const end of ends) await end();
});

/** Nodes whose clients join the room that they name. */
async function nodes(t, more = {}) {
  const name = randomUUID();
  const started = [];
  for (let node = 0; node < 2; node += 1) {
    const server = await start(t, { auth, events: { join: {} }, cluster: { url: `redis://127.0.0.1:${redis}`, name }, ...more });
    server.on('join', (conn, room) => {
      conn.join(room);
      conn.emit('joined');
    });
    started.push(server);
  }
  return { name, one: started[0], two: started[1] };
}

async function join(server, user, ...rooms) {
  const client = await Client.connect(server.address, as(user));
  for (const room of rooms) {
    client.emit('join', room);
    assert.equal((await client.event()).event, 'joined');
  }
  return client;
}

/** The lobby once the others know of each other: a subscription is made behind the join. */
async function counted(server, wanted) {
  for (;;) {
    const everywhere = await server.to('lobby').everywhere();
    if (everywhere.connections === wanted) return everywhere;
  }
}

test('a room, a user and everybody are counted on all nodes', { skip }, async (t) => {
  const { one, two } = await nodes(t);
  await join(one, 'a', 'lobby');
  await join(two, 'a', 'lobby');
  await join(two, 'b', 'lobby', 'other');
  for (const server of [one, two]) assert.deepEqual(await counted(server, 3), { connections: 3, missing: 0 });
  assert.equal((await one.toUser('a').everywhere()).connections, 2);
  assert.equal((await one.to('other', 'lobby').everywhere()).connections, 3, 'who is in both counts once');
  assert.equal((await one.toAll().everywhere({ timeoutMs: 500 })).connections, 3);
  const [own] = one.to('lobby').members();
  assert.equal((await one.to('lobby').except(own).everywhere()).connections, 2);
  assert.equal(one.to('lobby').size, 1, 'what is not asked for everywhere is of this node');
});

test('a message, a limit, a disconnect and a ban cross', { skip }, async (t) => {
  const { one, two } = await nodes(t, { maxConnectionsPerUser: 2 });
  const clients = [await join(one, 'a', 'lobby'), await join(two, 'a', 'lobby')];
  await counted(one, 2);
  one.to('lobby').emit('news', 7);
  for (const client of clients) assert.equal((await client.event()).data, 7);
  assert.equal(await Client.refused(one.address, as('a')), 429);
  two.disconnectUser('a');
  for (const client of clients) assert.deepEqual(await client.closed, { code: 1008, reason: 'session revoked' });
  const third = await join(two, 'b', 'lobby');
  one.ban({ user: 'b' });
  assert.equal((await third.closed).code, 1008);
  assert.deepEqual(two.bans().map(({ user }) => user), ['b']);
  const { clusterUp, clusterDropped } = one.stats();
  assert.deepEqual([clusterUp, clusterDropped], [1, 0]);
});

test('a room is cleared, and closed, on all nodes', { skip }, async (t) => {
  const { one, two } = await nodes(t);
  const [first, second] = [await join(one, 'a', 'lobby'), await join(two, 'b', 'lobby', 'other')];
  await counted(one, 2);
  const [theirs] = two.connectionsOf('b');
  one.to('lobby').clear();
  await until(() => theirs.rooms.length === 1);
  assert.deepEqual(theirs.rooms, ['other']);
  assert.equal(one.to('lobby').size, 0);
  theirs.join('lobby');
  assert.deepEqual([theirs.rooms, two.to('lobby').size], [['other', 'lobby'], 1], 'it may join again');
  await counted(one, 1);
  one.to('lobby').emit('first');
  one.to('lobby').close(4000, 'away');
  assert.equal((await second.event()).event, 'first');
  assert.deepEqual(await second.closed, { code: 4000, reason: 'away' });
  two.toAll().close(4001);
  assert.equal((await first.closed).code, 4001);
});

/** A node that is not alone, and a member of the lobby's channel that answers no question. */
async function beside(t) {
  const { name, one } = await nodes(t);
  await listenTo(t, redis, `wsguard:${name}:room:lobby`);
  // It is not alone from here on.
  while ((await one.to('lobby').everywhere({ timeoutMs: 50 })).missing === 0);
  return one;
}

test('who does not answer is missing, however many ask', { skip }, async (t) => {
  const one = await beside(t);
  assert.deepEqual(await one.to('lobby').everywhere({ timeoutMs: 0 }), { connections: 0, missing: 1 });
  const all = await Promise.all(Array.from({ length: 1000 }, () => one.to('lobby').everywhere({ timeoutMs: 100 })));
  assert.deepEqual(all, new Array(1000).fill({ connections: 0, missing: 1 }));
});

for (const end of ['stop', 'drain']) {
  test(`a question ends with its server: ${end}`, { skip }, async (t) => {
    const one = await beside(t);
    const asked = Array.from({ length: 10 }, () => one.to('lobby').everywhere({ timeoutMs: 60_000 }));
    const ended = Promise.allSettled(asked);
    await one[end]();
    for (const { reason } of await ended) assert.equal(reason.code, 'stopped');
    await assert.rejects(one.to('lobby').everywhere(), { code: 'stopped' });
  });
}

test('without a cluster nobody is asked', async (t) => {
  const server = await start(t);
  await Client.connect(server.address);
  await until(() => server.toAll().size === 1);
  assert.deepEqual(await server.toAll().everywhere(), { connections: 1, missing: 0 });
  await assert.rejects(server.toAll().everywhere({ timeout: 1 }), { code: 'invalid_argument' });
  await assert.rejects(server.toAll().everywhere({ timeoutMs: -1 }), { code: 'invalid_argument' });
});

test('a Redis that refuses is an error without its password', async (t) => {
  const cluster = { url: `redis://me:s3cret@127.0.0.1:${await refusing(t)}` };
  const server = new Server(policy({ cluster }));
  await assert.rejects(server.listen(), (error) => {
    assert.deepEqual([error.code, error.option], ['invalid_option', 'cluster.url']);
    return /password/.test(error.message) && !/s3cret/.test(error.stack);
  });
  for (const url of ['http://127.0.0.1', 'redis://:s3cret@', 'redis://:s3cret@host:port']) {
    const refused = (error) => error.option === 'cluster.url' && !/s3cret/.test(error.stack);
    assert.throws(() => new Server(policy({ cluster: { url } })), refused);
  }
});

test('a Redis that is not there is none', async (t) => {
  const cluster = { url: `redis://127.0.0.1:${await freePort()}`, onOutage: 'closed' };
  const server = await start(t, { cluster });
  assert.equal(await Client.refused(server.address), 503);
  const { verdicts, clusterUp } = server.stats();
  assert.deepEqual([verdicts.cluster_unavailable, clusterUp], [1, 0]);
  assert.deepEqual(await server.toAll().everywhere(), { connections: 0, missing: 0 });
});

test('each worker of a cluster of processes is a node', { skip }, async () => {
  const { code, out, err } = await run('cluster-workers.mjs', { args: [String(redis)] });
  assert.deepEqual([code, err, JSON.parse(out)], [0, '', [{ connections: 2, missing: 0 }, { connections: 2, missing: 0 }]]);
});

test('a worker thread is a node, and ends while it asks', { skip }, async () => {
  const { code, out, err } = await run('cluster-thread.mjs', { args: [String(redis)] });
  assert.deepEqual([code, err, out], [0, '', 'ended\n']);
});

// Nothing leaks from one connection's handlers into another's: AsyncLocalStorage has one context per connection.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';
import { accept } from '../index.mjs';
import { Client, policy, start } from './harness.mjs';
import { Server } from '../index.mjs';

const als = new AsyncLocalStorage();

function together(clients, message) {
  for (const client of clients) client.send(message);
}

test('what a handler enters is seen by no other connection', async (t) => {
  const server = await start(t, {
    protocol: 'raw',
    auth: 'callback',
    authenticate: async ({ path }) => {
      assert.equal(als.getStore(), undefined);
      als.enterWith(`handshake of ${path}`);
      return accept({ user: path });
    },
  });
  const seen = new Set();
  const note = (conn) => {
    const store = als.getStore();
    if (store !== undefined && store !== conn.user) seen.add(`${conn.user} saw ${store}`);
    als.enterWith(conn.user);
  };
  server.on('open', note);
  server.on('close', note);
  server.on('message', async (conn, data) => {
    note(conn);
    await null;
    assert.equal(als.getStore(), conn.user);
    await new Promise(setImmediate);
    assert.equal(als.getStore(), conn.user);
    for (const other of server.connections) other.data = 1;
    conn.send(data);
  });
  server.on('violation', () => seen.add(als.getStore() ?? 'nothing'));
  const clients = [];
  for (let at = 0; at < 6; at += 1) clients.push(await Client.connect(server.address, { path: `/${at}` }));
  for (let round = 0; round < 10; round += 1) {
    together(clients, 'x');
    for (const client of clients) await client.message();
  }
  await Promise.all(clients.map((client) => client.close()));
  assert.deepEqual([...seen], []);
});

test('handlers begin with the context of whoever started the server, always', async (t) => {
  const server = new Server(policy({ protocol: 'raw' }));
  t.after(() => server.stop());
  await als.run('starter', () => server.listen());
  const seen = [];
  server.on('message', (conn, data) => {
    seen.push(als.getStore());
    conn.send(data);
  });
  als.enterWith('a test');
  const first = await Client.connect(server.address);
  const second = await Client.connect(server.address);
  // Whoever looks at the connections makes them known, and gives them nothing of its own.
  als.run('looker', () => void [...server.connections]);
  for (const client of [first, second, first]) {
    client.send('x');
    await client.message();
  }
  als.enterWith(undefined);
  assert.deepEqual(seen, ['starter', 'starter', 'starter']);
});

test('als.run holds over an await, and an error listener hears in the context of its connection', async (t) => {
  const server = await start(t, { protocol: 'raw' });
  const heard = [];
  server.on('error', () => heard.push(als.getStore()));
  server.on('message', (conn, data) => als.run(data, async () => {
    await new Promise(setImmediate);
    throw new Error('as asked');
  }));
  const clients = [await Client.connect(server.address), await Client.connect(server.address)];
  for (const [at, client] of clients.entries()) client.send(`user ${at}`);
  await Promise.all(clients.map((client) => client.closed));
  assert.ok(heard.every((store) => store === undefined || /^user [01]$/.test(store)), String(heard));
  assert.equal(als.getStore(), undefined);
});

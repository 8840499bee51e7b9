// How servers end: drain, abort, dispose, workers, the end of the process, garbage.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { Server } from '../index.mjs';
import { Client, policy, run, start } from './harness.mjs';

const threads = () => readdirSync('/proc/self/task').length;

test('drain tells every connection, and resolves when all is over', async (t) => {
  const server = await start(t, { events: { echo: {} } });
  const stopped = once(server, 'stopped');
  const clients = await Promise.all([Client.connect(server.address), Client.connect(server.address)]);
  const first = server.drain({ timeoutMs: 5000 });
  for (const client of clients) assert.deepEqual(await client.closed, { code: 1012, reason: 'server restarting' });
  await first;
  await stopped;
  await server.drain();
  assert.equal(server.isRunning, false);
  for (const timeoutMs of [-1, NaN, '5']) await assert.rejects(server.drain({ timeoutMs }), { code: 'invalid_argument' });
});

test('stop drops every connection', async (t) => {
  const server = await start(t);
  const client = await Client.connect(server.address);
  await server.stop();
  assert.ok([1006, 1012].includes((await client.closed).code));
});

test('an aborted signal drains; one that was aborted before refuses', async (t) => {
  const server = new Server(policy());
  t.after(() => server.stop());
  const abort = new AbortController();
  const client = await Client.connect(await server.listen({ signal: abort.signal }));
  abort.abort();
  assert.equal((await client.closed).code, 1012);
  await server.drain();
  await assert.rejects(new Server(policy()).listen({ signal: abort.signal }), { name: 'AbortError' });
});

test('Symbol.asyncDispose drains', async (t) => {
  const server = await start(t);
  const client = await Client.connect(server.address);
  await server[Symbol.asyncDispose]();
  assert.equal((await client.closed).code, 1012);
});

test('the threads of a server end with it', async () => {
  const before = threads();
  for (let round = 0; round < 5; round += 1) {
    const server = new Server(policy({ threads: 2 }));
    await server.listen();
    await server.drain();
  }
  assert.ok(threads() <= before + 1, `${before} threads before, ${threads()} after`);
});

test('two servers in one process do not know each other', async (t) => {
  const [a, b] = [await start(t, { events: { hi: {} } }), await start(t, { events: { hi: {} } })];
  for (const [name, server] of Object.entries({ a, b })) {
    server.on('hi', (conn) => {
      conn.join('room');
      server.to('room').emit('from', name);
    });
  }
  const clients = [await Client.connect(a.address), await Client.connect(b.address)];
  for (const client of clients) client.emit('hi');
  assert.deepEqual([(await clients[0].event()).data, (await clients[1].event()).data], ['a', 'b']);
  await a.drain();
  clients[1].emit('hi');
  assert.equal((await clients[1].event()).data, 'b');
});

for (const [name, program, expected] of [
  ['a worker that is terminated under load leaves the process alive', 'worker-terminated.mjs', 'alive\n'],
  ['servers in workers and in the main thread', 'workers.mjs', 'main a b\n'],
  ['process.exit under load', 'exit-under-load.mjs', 'exiting\n'],
  ['process.exit inside a handler', 'exit-in-handler.mjs', 'exiting\n'],
  ['an uncaught exception ends the process as ever', 'uncaught.mjs', ''],
  ['fake timers', 'fake-timers.mjs', '1\n2\n3\n'],
  ['an idle server that is unreferenced lets the process end', 'unref.mjs', 'unreferenced\n'],
  ['a listening server keeps the process alive', 'referenced.mjs', 'still here\n'],
  ['garbage collection of running and of forgotten servers', 'garbage.mjs', 'collected 1\nserved\n'],
]) {
  test(name, async () => {
    const { code, signal, out, err } = await run(program, { node: ['--expose-gc'] });
    assert.deepEqual([signal, out], [null, expected], err);
    assert.equal(code, program === 'uncaught.mjs' ? 1 : 0, err);
  });
}

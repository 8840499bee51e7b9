// In a process of its own, so that every connection that JavaScript has made is one of this test.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { queryObjects } from 'node:v8';
import { Client, start } from './harness.mjs';

const { Connection } = createRequire(import.meta.url)('../lib/connection.js');

test('who is thrown out before a first message never reaches JavaScript', async (t) => {
  const server = await start(t, { events: { echo: {} } });
  server.on('echo', (conn, data) => void conn.emit('echo', data));
  for (let round = 0; round < 5; round += 1) {
    const offender = await Client.connect(server.address);
    offender.send('{');
    assert.equal((await offender.closed).code, 1008);
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(server.stats().openedTotal, 5);
  assert.equal(queryObjects(Connection), 0);
  const honest = await Client.connect(server.address);
  honest.emit('echo', 1);
  assert.equal((await honest.event()).data, 1);
  assert.equal(queryObjects(Connection), 1);
});

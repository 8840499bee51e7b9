// In a process of its own, because it counts the connections that JavaScript makes.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

const connection = createRequire(import.meta.url)('../lib/connection.js');
let made = 0;
connection.Connection = class extends connection.Connection {
  constructor(...described) {
    super(...described);
    made += 1;
  }
};
// What loads the class must see the one above.
const { Client, start } = await import('./harness.mjs');

test('who says nothing valid never reaches JavaScript', async (t) => {
  const server = await start(t, { events: { echo: {} } });
  server.on('echo', (conn, data) => void conn.emit('echo', data));
  await Client.connect(server.address);
  for (let round = 0; round < 5; round += 1) {
    const offender = await Client.connect(server.address);
    offender.send('{');
    assert.equal((await offender.closed).code, 1008);
  }
  // One thread tells of all in order: whoever is behind the others is told of last.
  const honest = await Client.connect(server.address);
  honest.emit('echo', 1);
  assert.equal((await honest.event()).data, 1);
  assert.equal(server.stats().openedTotal, 7);
  assert.equal(made, 1);
  assert.equal([...server.connections].length, 2);
  assert.equal(made, 2);
});

import assert from 'node:assert/strict';
import { connect, refused } from '../lib/client.mjs';
import { onEach, onGuarded, start, stop } from '../lib/engines.mjs';

onEach('@fastify/websocket: hooks before the upgrade, routes, clients, close', async (t, engine) => {
  const app = await start(t, engine, 'fastify-websocket.mjs', { alias: true });
  const url = `ws://${app.address}/chat?ticket=change-me`;
  assert.equal(await refused(`ws://${app.address}/chat`), 401);
  assert.equal(await refused(`ws://${app.address}/nowhere?ticket=change-me`), 404);
  const [a, b] = await Promise.all([connect(t, url), connect(t, url)]);
  a.send('hello');
  const [heard, same] = await Promise.all([a.next(), b.next()]);
  assert.match(heard, /^req-\w+: hello$/);
  assert.equal(heard, same);
  b.send(Buffer.from([1, 2]));
  assert.deepEqual(await a.next(), Buffer.from([1, 2]));
  const failing = await connect(t, `ws://${app.address}/fails?ticket=change-me`);
  assert.equal((await failing.ended).code, 1006);
  await stop(app);
  assert.equal((await a.ended).code, 1005);
  assert.equal(app.stderr(), '');
});

onEach('@fastify/websocket: maxPayload of its options', async (t, engine) => {
  const { address } = await start(t, engine, 'fastify-websocket.mjs', { alias: true });
  const ws = await connect(t, `ws://${address}/chat?ticket=change-me`);
  ws.send(Buffer.alloc(32_768));
  assert.equal((await ws.next()).length, 32_768);
  ws.send(Buffer.alloc(32_769));
  // What the application does with the error of ws is to drop the connection, at once: the close frame may still come.
  assert.ok([1006, 1009].includes((await ws.ended).code));
});

onGuarded('@fastify/websocket: a foreign page is refused', async (t, engine) => {
  const { address } = await start(t, engine, 'fastify-websocket.mjs', { alias: true });
  assert.equal(await refused(`ws://${address}/chat?ticket=change-me`, { origin: 'http://evil.test' }), 403);
});

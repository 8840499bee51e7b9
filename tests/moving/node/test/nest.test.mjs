import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, refused } from '../lib/client.mjs';
import { onEach, onGuarded, start } from '../lib/engines.mjs';

onEach("NestJS' WsAdapter: gateway, several answers, clients, shutdown", async (t, engine) => {
  const app = await start(t, engine, 'nest.mjs', { alias: true });
  const url = `ws://${app.address}/chat`;
  const next = async (ws) => JSON.parse(await ws.next());
  const a = await connect(t, url);
  assert.deepEqual(await next(a), { event: 'welcome', data: 1 });
  const b = await connect(t, url);
  assert.deepEqual(await next(b), { event: 'welcome', data: 2 });
  a.send(JSON.stringify({ event: 'say', data: 'hello' }));
  assert.deepEqual(await next(b), { event: 'said', data: 'hello' });
  assert.deepEqual(await next(a), { event: 'said', data: 'hello' });
  assert.deepEqual(await next(a), { event: 'sent', data: 5 });
  b.send(JSON.stringify({ event: 'count', data: 3 }));
  for (const data of [1, 2, 3]) assert.deepEqual(await next(b), { event: 'counted', data });
  // Nest drops what it cannot read, and goes on.
  a.send('no JSON');
  a.send(JSON.stringify({ event: 'count', data: 1 }));
  assert.deepEqual(await next(a), { event: 'counted', data: 1 });
  const exited = once(app.child, 'exit');
  app.child.kill('SIGTERM');
  assert.equal((await a.ended).code, 1006);
  await exited;
  assert.equal(app.stderr(), '');
});

onGuarded("NestJS' WsAdapter: a foreign page is refused, too large a message closes", async (t, engine) => {
  const { address } = await start(t, engine, 'nest.mjs', { alias: true });
  assert.equal(await refused(`ws://${address}/chat`, { origin: 'http://evil.test' }), 403);
  const ws = await connect(t, `ws://${address}/chat`);
  ws.send('x'.repeat(65_537));
  assert.equal((await ws.ended).code, 1009);
});

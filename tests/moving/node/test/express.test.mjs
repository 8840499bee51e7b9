import assert from 'node:assert/strict';
import { connect, refused } from '../lib/client.mjs';
import { onEach, onGuarded, start, stop } from '../lib/engines.mjs';

async function login(address, name) {
  const response = await fetch(`http://${address}/login`, { method: 'POST', body: new URLSearchParams({ name }) });
  return { headers: { cookie: response.headers.get('set-cookie').split(';')[0] } };
}

onEach('Express: the session decides, then the WebSocket', async (t, engine) => {
  const app = await start(t, engine, 'express.mjs');
  const url = `ws://${app.address}/chat`;
  assert.equal(await refused(url), 401);
  const [alice, bob] = await Promise.all(['alice', 'bob'].map(async (name) => connect(t, url, await login(app.address, name))));
  alice.send('hello');
  for (const ws of [alice, bob]) assert.equal(await ws.next(), 'alice: hello');
  await stop(app);
  for (const ws of [alice, bob]) assert.equal((await ws.ended).code, 1012);
  assert.equal(app.stderr(), '');
});

onGuarded('Express: a foreign page with the cookie of a user is refused', async (t, engine) => {
  const { address } = await start(t, engine, 'express.mjs');
  const session = await login(address, 'alice');
  assert.equal(await refused(`ws://${address}/chat`, { ...session, origin: 'http://evil.test' }), 403);
  assert.equal(await refused(`ws://${address}/elsewhere`, session), 404);
});

onEach('express-ws: routes, parameters, middleware', async (t, engine) => {
  const { address } = await start(t, engine, 'express-ws.mjs', { alias: true });
  const ws = await connect(t, `ws://${address}/echo/alice`);
  ws.send('hi');
  assert.equal(await ws.next(), 'hello alice: hi');
  assert.equal(await (await fetch(`http://${address}/`)).text(), '1 connected');
  // express-ws opens first and looks for a route then.
  const lost = await connect(t, `ws://${address}/nowhere`);
  assert.equal((await lost.ended).code, 1005);
});

onGuarded('express-ws: a foreign page is refused, too large a message closes', async (t, engine) => {
  const { address } = await start(t, engine, 'express-ws.mjs', { alias: true });
  assert.equal(await refused(`ws://${address}/echo/alice`, { origin: 'http://evil.test' }), 403);
  const ws = await connect(t, `ws://${address}/echo/alice`);
  ws.send('x'.repeat(65_537));
  assert.equal((await ws.ended).code, 1009);
});

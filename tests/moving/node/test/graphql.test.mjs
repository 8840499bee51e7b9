import assert from 'node:assert/strict';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { connect, refused } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded, start, stop } from '../lib/engines.mjs';

class FromPage extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: ORIGIN });
  }
}

function client(t, address, connectionParams) {
  const client = createClient({ url: `ws://${address}/graphql`, webSocketImpl: FromPage, connectionParams, retryAttempts: 0, onNonLazyError: () => {} });
  t.after(() => client.dispose());
  return client;
}

onEach('graphql-ws: query, subscription, refusal, shutdown', async (t, engine) => {
  const app = await start(t, engine, 'graphql.mjs');
  const graphql = client(t, app.address, { token: 'change-me', user: 'alice' });
  const results = [];
  for await (const { data } of graphql.iterate({ query: '{ who }' })) results.push(data.who);
  assert.deepEqual(results, ['alice']);
  const counted = [];
  for await (const { data } of graphql.iterate({ query: 'subscription { countdown(from: 3) }' })) counted.push(data.countdown);
  assert.deepEqual(counted, [3, 2, 1, 0]);
  const stranger = client(t, app.address, { token: 'guessed' });
  await assert.rejects(stranger.iterate({ query: '{ who }' }).next(), { code: 4403 });
  const open = await connect(t, `ws://${app.address}/graphql`, { protocols: ['graphql-transport-ws'] });
  assert.equal(open.protocol, 'graphql-transport-ws');
  const unknown = await connect(t, `ws://${app.address}/graphql`, { protocols: ['graphql-transport-ws'] });
  unknown.send('this is no message of its protocol');
  assert.equal((await unknown.ended).code, 4400);
  await stop(app);
  assert.equal((await open.ended).code, 1001);
});

onEach('graphql-ws: without its subprotocol', async (t, engine) => {
  const { address } = await start(t, engine, 'graphql.mjs');
  const ws = await connect(t, `ws://${address}/graphql`);
  assert.equal((await ws.ended).code, 4406);
});

onGuarded('graphql-ws: a foreign page is refused', async (t, engine) => {
  const { address } = await start(t, engine, 'graphql.mjs');
  assert.equal(await refused(`ws://${address}/graphql`, { protocols: ['graphql-transport-ws'], origin: 'http://evil.test' }), 403);
});

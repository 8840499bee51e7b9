import assert from 'node:assert/strict';
import { createTRPCClient, createWSClient, wsLink } from '@trpc/client';
import { WebSocket } from 'ws';
import { refused } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded, start, stop } from '../lib/engines.mjs';

class FromPage extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: ORIGIN });
  }
}

function client(t, address, user, onClose) {
  const ws = createWSClient({
    url: `ws://${address}/`,
    WebSocket: FromPage,
    connectionParams: { user },
    retryDelayMs: () => 10,
    onClose,
  });
  t.after(() => ws.close());
  return createTRPCClient({ links: [wsLink({ client: ws })] });
}

onEach('tRPC: query, mutation, subscription, errors of the input', async (t, engine) => {
  const app = await start(t, engine, 'trpc.mjs');
  const alice = client(t, app.address, 'alice');
  const bob = client(t, app.address, 'bob');
  assert.equal(await alice.who.query(), 'alice');
  const { promise: started, resolve: hasStarted } = withResolvers();
  const { promise: heard, resolve: hears } = withResolvers();
  const subscription = bob.said.subscribe(undefined, { onStarted: hasStarted, onData: hears });
  await started;
  // It listens once its generator runs: the subscription's own next answer says so.
  assert.equal(await bob.who.query(), 'bob');
  assert.equal(await alice.say.mutate({ text: 'hello' }), true);
  assert.deepEqual(await heard, { user: 'alice', text: 'hello' });
  subscription.unsubscribe();
  await assert.rejects(alice.say.mutate({ text: 1 }), ({ data }) => data.code === 'BAD_REQUEST');
});

onEach('tRPC: the server asks its clients to reconnect, and closes', async (t, engine) => {
  const app = await start(t, engine, 'trpc.mjs');
  const { promise: closed, resolve: closes } = withResolvers();
  const alice = client(t, app.address, 'alice', closes);
  assert.equal(await alice.who.query(), 'alice');
  await Promise.all([closed, stop(app)]);
});

onGuarded('tRPC: a foreign page is refused', async (t, engine) => {
  const { address } = await start(t, engine, 'trpc.mjs');
  assert.equal(await refused(`ws://${address}/`, { origin: 'http://evil.test' }), 403);
});

function withResolvers() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}

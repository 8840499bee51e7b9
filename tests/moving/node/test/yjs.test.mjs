import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { WebsocketProvider } from 'y-websocket';
import { WebSocket } from 'ws';
import * as Y from 'yjs';
import { refused } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded, start } from '../lib/engines.mjs';

class FromPage extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: ORIGIN });
  }
}

function open(t, address, room) {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`ws://${address}`, room, doc, { WebSocketPolyfill: FromPage, disableBc: true });
  t.after(() => {
    provider.destroy();
    doc.destroy();
  });
  return { doc, provider, text: doc.getText('text'), synced: new Promise((resolve) => provider.once('sync', resolve)) };
}

/** Resolves once `holds()`, looked at after each event `name` of `emitter`. */
const until = (emitter, name, holds) =>
  new Promise((resolve) => {
    const look = () => holds() && resolve(emitter.off?.(name, look));
    emitter.on(name, look);
    look();
  });

async function edit(t, address) {
  const a = open(t, address, 'paper');
  const b = open(t, address, 'paper');
  await Promise.all([a.synced, b.synced]);
  a.text.insert(0, 'hello');
  await until(b.doc, 'update', () => b.text.toString() === 'hello');
  b.text.insert(5, ' world');
  await until(a.doc, 'update', () => a.text.toString() === 'hello world');
  b.provider.awareness.setLocalStateField('user', { name: 'bob' });
  await until(a.provider.awareness, 'change', () => a.provider.awareness.getStates().get(b.doc.clientID)?.user?.name === 'bob');
  b.provider.destroy();
  await until(a.provider.awareness, 'change', () => !a.provider.awareness.getStates().has(b.doc.clientID));
  // Who comes later gets the document from the server, in one large message.
  a.text.insert(0, 'x'.repeat(50_000));
  const c = open(t, address, 'paper');
  await until(c.doc, 'update', () => c.text.length === 50_011);
  const other = open(t, address, 'another');
  await other.synced;
  assert.equal(other.text.length, 0);
}

onEach('y-websocket: edits, awareness, who comes later', async (t, engine) => {
  const { address } = await start(t, engine, 'yjs.mjs');
  await edit(t, address);
});

onEach("y-websocket: its own server's program, unchanged", async (t, engine) => {
  // It cannot say which port it took: one that was free a moment ago.
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  const program = import.meta.resolve('../../../../examples/node/moving/node_modules/@y/websocket-server/src/server.js');
  await start(t, engine, 'server.js', {
    alias: true,
    file: new URL(program),
    env: { PORT: String(port), HOST: '127.0.0.1', WSGUARD_POLICY: 'policy.json' },
  });
  await edit(t, `127.0.0.1:${port}`);
  if (engine.isGuarded) assert.equal(await refused(`ws://127.0.0.1:${port}/paper`, { origin: 'http://evil.test' }), 403);
});

onGuarded('y-websocket: a foreign page is refused', async (t, engine) => {
  const { address } = await start(t, engine, 'yjs.mjs');
  assert.equal(await refused(`ws://${address}/paper`, { origin: 'http://evil.test' }), 403);
});

// An application that throws costs one connection. With ws it costs the process.

import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { connect } from '../lib/client.mjs';
import { ORIGIN, onEach, start } from '../lib/engines.mjs';

const HOOKS = ['verifyClient', 'handleProtocols', 'headers', 'connection', 'message', 'onmessage', 'async message', 'ping', 'send callback', 'close'];

/** Reaches every hook there is, as far as the server lets it; resolves when it is closed or refused. */
async function provoke(t, url) {
  const ws = new WebSocket(url, ['chat'], { origin: ORIGIN });
  t.after(() => ws.terminate());
  ws.on('error', () => {});
  ws.on('open', () => {
    ws.ping();
    ws.send('provoked');
  });
  ws.on('message', (text) => String(text) === 'echo provoked' && ws.close(1000));
  await new Promise((resolve) => ws.on('close', resolve));
}

for (const way of ['port', 'server']) {
  for (const hook of HOOKS) {
    onEach(`${way}: ${hook} throws`, async (t, engine) => {
      const file = new URL('../fixtures/throws.mjs', import.meta.url);
      const app = await start(t, engine, 'throws.mjs', { file, env: { HOOK: hook, WAY: way } });
      const before = engine.isGuarded ? await connect(t, `ws://${app.address}/`, { protocols: ['chat'] }) : undefined;
      await provoke(t, `ws://${app.address}/throws`);
      if (!engine.isGuarded) return assert.deepEqual(await app.ended, [1, null]);
      before.send('still here');
      assert.equal(await echoOf(before), 'echo still here');
      const after = await connect(t, `ws://${app.address}/`, { protocols: ['chat'] });
      after.send('and new ones');
      assert.equal(await echoOf(after), 'echo and new ones');
      await app.complains(new RegExp(`${hook} throws`));
      assert.equal(app.child.exitCode, null);
    });
  }
}

async function echoOf(ws) {
  for (;;) {
    const text = await ws.next();
    if (text !== 'hello') return text;
  }
}

// What a peer hears of a server on wsguard/ws is what it hears of one on ws, and the other way round: random scripts of what
// is said. SEEDS=1000 runs more of them, FROM=17 begins at one.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { ORIGIN } from '../lib/engines.mjs';
import { hear, say, scriptOf } from '../lib/script.mjs';
import { WAYS } from '../lib/ways.mjs';

const require = createRequire(import.meta.url);
const [from, count] = [Number(process.env.FROM ?? 0), Number(process.env.SEEDS ?? 60)];
const policy = {
  origins: [ORIGIN],
  auth: 'none',
  rateLimit: null,
  controlRateLimit: null,
  handshakesPerIp: null,
  maxMessageBytes: 1_000_000,
  maxOutboxBytes: 100_000_000,
};

/** A server of each engine, and `play(script, speaker)`: what the other side hears when `speaker` says the script. */
async function stage(t, way, WebSocketServer, more = {}) {
  const { wss, dial: { url, ...options } } = await WAYS[way](t, WebSocketServer, { policy, ...more });
  return async (script, speaker) => {
    const served = once(wss, 'connection');
    const client = new WebSocket(url, { origin: ORIGIN, perMessageDeflate: more.perMessageDeflate ?? false, ...options });
    const opened = once(client, 'open');
    const atClient = hear(client);
    const [ours] = await served;
    const atServer = hear(ours);
    await opened;
    assert.deepEqual([ours.extensions, client.extensions].map((name) => name !== ''), [more, more].map(({ perMessageDeflate }) => perMessageDeflate !== undefined));
    await say(speaker === 'server' ? ours : client, script);
    const [client_, server] = await Promise.all([atClient, atServer]);
    return speaker === 'server' ? client_ : server;
  };
}

/** Nothing compressed, and with whole messages compressed at several thresholds. */
const COMPRESSIONS = {
  '': () => ({}),
  ', compressed': (seed) => {
    const threshold = [0, 1, 1024, 65_536][seed % 4];
    return { perMessageDeflate: { threshold, serverNoContextTakeover: seed % 2 === 0 }, policy: { ...policy, compression: { thresholdBytes: 0 } } };
  },
};

for (const way of ['port', 'server', 'https', 'in-memory pair']) {
  for (const speaker of ['server', 'client']) {
    for (const [name, compression] of Object.entries(COMPRESSIONS)) {
      test(`${way}: what the ${speaker} says is heard alike${name}`, { timeout: 300_000 }, async (t) => {
        const stages = {};
        for (let seed = from; seed < from + count; seed++) {
          const script = scriptOf(seed);
          const more = compression(seed);
          const key = JSON.stringify(more.perMessageDeflate);
          const on = async (library) => await stage(t, way, require(library).WebSocketServer, more);
          stages[key] ??= [await on('wsguard/ws'), await on('ws')];
          const [onGuard, onWs] = stages[key];
          assert.deepEqual(await onGuard(script, speaker), await onWs(script, speaker), `seed ${seed}: ${JSON.stringify(script)}`);
        }
      });
    }
  }
}

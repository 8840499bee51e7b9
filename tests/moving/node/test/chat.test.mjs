// The ws chat of the guide.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, refused } from '../lib/client.mjs';
import { onEach, onGuarded, start, stop } from '../lib/engines.mjs';

const alice = { protocols: ['bearer', 'change-me'] };
const bob = { protocols: ['bearer', 'change-me-too'] };

onEach('ws chat: rooms by path, text and binary, close', async (t, engine) => {
  const chat = await start(t, engine, 'chat.mjs');
  const a = await connect(t, `ws://${chat.address}/lobby`, alice);
  const b = await connect(t, `ws://${chat.address}/lobby`, bob);
  const elsewhere = await connect(t, `ws://${chat.address}/attic`, bob);
  for (const [ws, room] of [[a, '/lobby'], [b, '/lobby'], [elsewhere, '/attic']]) assert.equal(await ws.next(), `welcome to ${room}`);
  elsewhere.send('nobody hears this');
  a.send('hello');
  assert.equal(await b.next(), 'hello');
  b.send(Buffer.from([0, 1, 2]));
  assert.deepEqual(await a.next(), Buffer.from([0, 1, 2]));
  const ponged = once(a, 'pong');
  a.ping('still there?');
  assert.equal(String((await ponged)[0]), 'still there?');
  await stop(chat);
  assert.deepEqual(await a.ended, { code: 1012, reason: 'restart' });
  assert.equal(chat.stderr(), '');
});

onGuarded('ws chat: who is refused now', async (t, engine) => {
  const { address } = await start(t, engine, 'chat.mjs');
  const url = `ws://${address}/lobby`;
  assert.equal(await refused(url, { ...alice, origin: 'http://evil.test' }), 403);
  assert.equal(await refused(url, { ...alice, origin: undefined }), 403);
  assert.equal(await refused(url, { protocols: ['bearer', 'guessed'] }), 401);
  assert.equal(await refused(url), 401);
  const ws = await connect(t, url, alice);
  ws.send('x'.repeat(65_537));
  assert.equal((await ws.ended).code, 1009);
});

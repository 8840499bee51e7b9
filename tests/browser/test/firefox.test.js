// What Firefox makes of the same: it compresses with another library than Chromium, and in frames of its own.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Firefox } from '../lib/firefox.js';
import { Host, policy } from '../lib/host.js';
import { VISIT, echo } from '../lib/page.js';

const firefox = await Firefox.launch();
after(() => firefox.close());

// It says the name alone, and leaves out what was agreed with it.
const AGREED = 'permessage-deflate';
const TEXTS = ['short', 'what is said twice, is said twice; '.repeat(500), 'é𝄞'.repeat(3000), '', 'x'.repeat(60_000)];

const start = (t, more) => Host.start(t, policy([firefox.origin], more));

for (const threshold of [0, 1024]) {
  test(`messages from ${threshold} bytes on are compressed both ways`, async (t) => {
    const host = await start(t, { compression: { threshold_bytes: threshold } });
    const seen = await firefox.connect(host.url(), { send: TEXTS.map(echo), answers: TEXTS.length, close: [1000, 'bye'] });
    assert.deepEqual(seen.messages.map((message) => message.data), TEXTS);
    assert.deepEqual([seen.code, seen.wasClean, seen.extensions], [1000, true, AGREED]);
    assert.equal((await host.event((event) => event.type === 'open')).compressed, true);
  });
}

test('without the option nothing is agreed', async (t) => {
  const host = await start(t, {});
  const seen = await firefox.connect(host.url(), VISIT);
  assert.deepEqual([seen.messages[0].data, seen.extensions, seen.code], ['hello', '', 1000]);
});

test('a broadcast comes compressed', async (t) => {
  const data = { text: 'to everybody in the room; '.repeat(400) };
  const host = await start(t, { compression: {}, events: { join: {}, say: {} } });
  const join = { event: 'join', data: { room: 'hall' } };
  const say = { event: 'say', data: { room: 'hall', ...data } };
  const seen = await firefox.connect(host.url(), { send: [join, say], answers: 2, close: [1000, 'bye'] });
  const said = seen.messages.find((message) => message.event === 'said');
  assert.equal(said.data.text, data.text);
  assert.equal(seen.extensions, AGREED);
});

test('what a page compresses counts with the size it had', async (t) => {
  const host = await start(t, { compression: {} });
  const seen = await firefox.connect(host.url(), { send: [echo('x'.repeat(10_000_000))] });
  assert.deepEqual([seen.code, seen.reason], [1009, 'message too big']);
  await host.violation('message_too_big');
});

test('a page of another origin is refused', async (t) => {
  const host = await Host.start(t, policy(['https://other.example'], { compression: {} }));
  const seen = await firefox.connect(host.url(), VISIT);
  assert.deepEqual([seen.opened, seen.error, seen.code, seen.messages], [false, true, 1006, []]);
  await host.violation('origin_denied');
});

// permessage-deflate as browsers speak it: what Chromium offers is agreed to, and messages are the same both ways.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { launch, visit } from '../lib/chromium.js';
import { Host, policy } from '../lib/host.js';
import { connect, echo, serve } from '../lib/page.js';

const browser = await launch();
after(() => browser.close());

const AGREED = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const TEXTS = ['short', 'what is said twice, is said twice; '.repeat(500), 'é𝄞'.repeat(3000), '', 'x'.repeat(60_000)];

/** What a visitor hears who sends all of `TEXTS`, and what the host says of it. */
async function visited(t, options) {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()], options));
  const page = await visit(t, browser, site.origin());
  const seen = await connect(page, host.url(), { send: TEXTS.map(echo), answers: TEXTS.length, close: [1000, 'bye'] });
  assert.deepEqual(seen.messages.map((message) => message.data), TEXTS);
  assert.deepEqual([seen.code, seen.wasClean], [1000, true]);
  const { compressed } = await host.event((event) => event.type === 'open');
  return { extensions: seen.extensions, compressed };
}

for (const threshold of [0, 1024]) {
  test(`messages from ${threshold} bytes on are compressed both ways`, async (t) => {
    const seen = await visited(t, { compression: { threshold_bytes: threshold } });
    assert.deepEqual(seen, { extensions: AGREED, compressed: true });
  });
}

test('without the option nothing is agreed', async (t) => {
  assert.deepEqual(await visited(t, {}), { extensions: '', compressed: false });
});

test('what a page compresses counts with the size it had', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()], { compression: {} }));
  const page = await visit(t, browser, site.origin());
  const seen = await connect(page, host.url(), { send: [echo('x'.repeat(10_000_000))] });
  assert.deepEqual([seen.code, seen.reason], [1009, 'message too big']);
  await host.violation('message_too_big');
});

// Close codes and reasons as a page sees them, and how long a silent page may stay.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { launch, visit } from '../lib/chromium.js';
import { Host, policy } from '../lib/host.js';
import { VISIT, connect, echo, serve } from '../lib/page.js';

const browser = await launch();
after(() => browser.close());

/** A page at an allowed origin, and its host. */
async function pair(t, options = {}) {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()], options));
  return { host, page: await visit(t, browser, site.origin()) };
}

const ends = ({ opened, code, reason, wasClean }) => ({ opened, code, reason, wasClean });
const closedWith = (code, reason) => ({ opened: true, code, reason, wasClean: true });

const violations = [
  ['a flood', { rate_limit: { per_second: 1, burst: 3, queue: 2 } }, Array(9).fill(echo(1)), 1008, 'rate limit'],
  ['a message too big', { max_message_bytes: 1000 }, [echo('x'.repeat(2000))], 1009, 'message too big'],
  ['a binary message', {}, [{ bytes: [1, 2, 3] }], 1003, 'binary not accepted'],
  ['an unknown event', {}, [{ event: 'no such event' }], 1008, 'unknown event'],
  ['no envelope', {}, [['an', 'array']], 1008, 'bad envelope'],
  [
    'data against its schema',
    { events: { echo: { schema: { type: 'string' } } } },
    [echo(1)],
    1008,
    'schema mismatch',
  ],
];

for (const [name, options, send, code, reason] of violations) {
  test(`${name} is closed with ${code} "${reason}"`, async (t) => {
    const { host, page } = await pair(t, options);
    assert.deepEqual(ends(await connect(page, host.url(), { send })), closedWith(code, reason));
    const told = await host.event((event) => event.type === 'close');
    assert.deepEqual([told.code, told.reason], [code, reason]);
  });
}

test('the application closes with its own code and reason', async (t) => {
  const { host, page } = await pair(t);
  for (const [code, reason] of [[1000, 'done'], [4000, 'see you – später'], [3000, '']]) {
    const send = [{ event: 'close', data: { code, reason } }];
    assert.deepEqual(ends(await connect(page, host.url(), { send })), closedWith(code, reason));
  }
});

test('a page closes with its own code and reason', async (t) => {
  const { host, page } = await pair(t);
  for (const [close, code, reason] of [[[4001, 'bye'], 4001, 'bye'], [[1000], 1000, ''], [[], 1005, '']]) {
    assert.equal((await connect(page, host.url(), { close })).wasClean, true);
    const told = await host.event((event) => event.type === 'close');
    assert.deepEqual([told.code, told.reason, told.clean], [code, reason, true]);
  }
});

test('a page that is left says 1001', async (t) => {
  const { host, page } = await pair(t);
  await page.evaluate((url) => {
    globalThis.socket = new WebSocket(url);
    return new Promise((resolve) => (globalThis.socket.onopen = () => resolve()));
  }, host.url());
  await page.goto('about:blank');
  const told = await host.event((event) => event.type === 'close');
  assert.deepEqual([told.code, told.clean], [1001, true]);
});

test('a refused handshake tells the page nothing: 1006', async (t) => {
  const { host, page } = await pair(t, { paths: ['/chat'] });
  const seen = await connect(page, host.url('/elsewhere'), VISIT);
  assert.deepEqual(ends(seen), { opened: false, code: 1006, reason: '', wasClean: false });
  await host.violation('path_not_found');
  assert.equal((await connect(page, host.url('/chat'), VISIT)).code, 1000);
});

test('the browser answers pings by itself: a silent page stays', async (t) => {
  const { host, page } = await pair(t, { ping_interval_ms: 400, idle_timeout_ms: 1500 });
  const seen = await connect(page, host.url(), { ...VISIT, quietMs: 4000 });
  assert.deepEqual([seen.messages.length, seen.code], [1, 1000]);
});

test('SIGTERM says 1012 to the page, and the host exits with 0', async (t) => {
  const { host, page } = await pair(t);
  const visiting = connect(page, host.url(), { send: [echo(1)] });
  await host.event((event) => event.type === 'message');
  const exit = host.terminate();
  assert.equal((await visiting).code, 1012);
  assert.equal(await exit, 0);
});

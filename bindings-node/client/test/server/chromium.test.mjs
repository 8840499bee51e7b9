// A real browser and a real server that drains, dies, limits, revokes and lets sessions end.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, test } from 'node:test';

import { Host, TOKEN, policy, tokens } from '../../../../tests/browser/lib/host.js';
import { launch, reached, serve, start, visit } from './browser.mjs';

const browser = await launch();
after(() => browser.close());

const QUICK = { minDelayMs: 100, maxDelayMs: 300 };

/** A page with an open client, and its host. */
async function pair(t, more = {}, options = { token: TOKEN, ...QUICK }, mint) {
  const origin = await serve(t);
  const settings = policy([origin], { ...tokens, token_sources: ['subprotocol'], ...more });
  const host = await Host.start(t, settings);
  const visited = await visit(t, browser, origin, mint);
  await start(visited.page, host.url('/chat'), options);
  /** The same server again, on the same port. */
  const again = () => Host.start(t, { ...settings, listen: `127.0.0.1:${host.port}` });
  return { ...visited, host, again };
}

const opened = (host) => host.event(({ type }) => type === 'open');
const states = (page) => page.evaluate(() => globalThis.states);

/** In five times its longest wait it has not come back. */
async function staysAway(page, host) {
  await page.evaluate((ms) => new Promise((resolve) => setTimeout(resolve, ms)), 5 * QUICK.maxDelayMs);
  host.command({ do: 'stats' });
  const { connections, opened_total: opened } = await host.event(({ type }) => type === 'stats');
  assert.deepEqual([opened, connections], [1, 0]);
}

test('a token as a subprotocol, events, requests', async (t) => {
  const { page, host, faults } = await pair(t, { events: { echo: {}, join: {}, say: {} } });
  await reached(page, 'open');
  assert.equal((await opened(host)).user, 'alice');
  const seen = await page.evaluate(async () => {
    const { client } = globalThis;
    const said = new Promise((resolve) => client.once('said', resolve));
    const joined = await client.request('join', { room: 'lobby' });
    client.emit('say', { room: 'lobby', text: 'hello' });
    const all = await Promise.all([1, 2, 3].map((number) => client.request('echo', number)));
    return { joined, all, said: await said };
  });
  assert.deepEqual(seen, { joined: { room: 'lobby' }, all: [1, 2, 3], said: { room: 'lobby', text: 'hello' } });
  await page.evaluate(() => globalThis.client.close(4000, 'bye'));
  const { code, reason, clean } = await host.event(({ type }) => type === 'close');
  assert.deepEqual([code, reason, clean], [4000, 'bye', true]);
  await staysAway(page, host);
  assert.deepEqual(faults, []);
});

test('a wrong token: it cannot be read, so the waits grow', async (t) => {
  const { page, host } = await pair(t, {}, { token: 'wrong', minDelayMs: 50 });
  await host.violation('auth_failed');
  await host.violation('auth_failed');
  const told = await states(page);
  assert.ok(told.every((state) => state === 'reconnecting 1006'), `${told}`);
});

test('the server drains and comes back: what was said in between arrives, in order', async (t) => {
  const { page, host, again } = await pair(t);
  await reached(page, 'open');
  assert.equal(await host.terminate(), 0);
  await reached(page, 'reconnecting');
  const asking = page.evaluate(() => Promise.all(['a', 'b', 'c'].map((data) => globalThis.client.request('echo', data, { timeoutMs: 60_000 }))));
  const back = await again();
  assert.deepEqual(await asking, ['a', 'b', 'c']);
  await opened(back);
  const told = await states(page);
  assert.deepEqual([told[0], told[1], told.at(-1)], ['open', 'reconnecting 1012 server restarting', 'open']);
});

test('the server dies and comes back; what it had not answered is told', async (t) => {
  const { page, host, again, faults } = await pair(t, { events: { echo: {}, block: {} } });
  await reached(page, 'open');
  const lost = page.evaluate(() => globalThis.client.request('block', { ms: 60_000 }).catch(({ code }) => code));
  await host.event(({ type, event }) => type === 'message' && event === 'block');
  await host.kill();
  assert.equal(await lost, 'connection_lost');
  await again();
  await reached(page, 'open', 2);
  assert.equal(await page.evaluate(() => globalThis.client.request('echo', 'back')), 'back');
  assert.equal((await states(page))[1], 'reconnecting 1006');
  assert.deepEqual(faults, []);
});

for (const [name, more, act, end] of [
  [
    'a flood',
    { rate_limit: { per_second: 1, burst: 3, queue: 2 } },
    ({ page }) => page.evaluate(() => Array.from({ length: 9 }, () => globalThis.client.emit('echo', 1))),
    'closed 1008 rate limit',
  ],
  [
    'data against its schema',
    { events: { echo: { schema: { type: 'string' } } } },
    ({ page }) => page.evaluate(() => globalThis.client.emit('echo', 1)),
    'closed 1008 schema mismatch',
  ],
  ['an unknown event', {}, ({ page }) => page.evaluate(() => globalThis.client.emit('shout', 1)), 'closed 1008 unknown event'],
  [
    'a message too big',
    { max_message_bytes: 1000 },
    ({ page }) => page.evaluate(() => globalThis.client.emit('echo', 'x'.repeat(2000))),
    'closed 1009 message too big',
  ],
  ['a user who is put out', {}, ({ host }) => host.command({ do: 'disconnect_user', user: 'alice' }), 'closed 1008 session revoked'],
  [
    'a close of the application',
    {},
    ({ page }) => page.evaluate(() => globalThis.client.emit('close', { code: 4001, reason: 'elsewhere' })),
    'closed 4001 elsewhere',
  ],
]) {
  test(`${name} does not come back`, async (t) => {
    const { page, host } = await pair(t, more);
    await reached(page, 'open');
    await opened(host);
    await act({ page, host });
    await reached(page, 'closed');
    assert.deepEqual(await states(page), ['open', end]);
    await staysAway(page, host);
  });
}

const SECRET = 'a-secret-of-the-test-that-is-long-enough';
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A JWT of alice for so long. */
function mint(lifeS, serial) {
  const signed = `${part({ alg: 'HS256' })}.${part({ sub: 'alice', exp: Math.ceil(Date.now() / 1000) + lifeS, jti: `${serial}` })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

const jwt = { auth: { jwt: { algorithms: ['HS256'], key: SECRET, leeway_s: 0 } } };

test('a session that expires: a new token is asked for, and it goes on', async (t) => {
  const asked = [];
  const token = (isStale) => (asked.push(isStale), { token: mint(2, asked.length), expiresAtMs: 0 });
  const { page } = await pair(t, jwt, { token: true, ...QUICK }, token);
  await reached(page, 'open', 2);
  assert.deepEqual((await states(page)).slice(0, 2), ['open', 'reconnecting 1008 session expired']);
  assert.deepEqual(asked.slice(0, 2), [false, true]);
});

test('before a token expires the connection changes to a new one', async (t) => {
  const asked = [];
  const token = (isStale) => (asked.push(isStale), mint(asked.length === 1 ? 4 : 600, asked.length));
  const { page, host } = await pair(t, jwt, { token: true, ...QUICK }, token);
  await reached(page, 'open', 2);
  assert.deepEqual(await states(page), ['open', 'reconnecting 1000 token renewed', 'open']);
  assert.deepEqual(asked, [false, true]);
  const { code } = await host.event(({ type }) => type === 'close');
  assert.equal(code, 1000);
  assert.equal(await page.evaluate(() => globalThis.client.request('echo', 1)), 1);
});

test('when the network is back it does not wait', async (t) => {
  const { page, context, host, again } = await pair(t, {}, { token: TOKEN, minDelayMs: 600_000, maxDelayMs: 600_000 });
  await reached(page, 'open');
  await host.kill();
  await reached(page, 'reconnecting');
  await again();
  // The wake-up waits as long as the shortest delay, by chance.
  await page.evaluate(() => (Math.random = () => 1e-6));
  await context.setOffline(true);
  await context.setOffline(false);
  await reached(page, 'open', 2);
});

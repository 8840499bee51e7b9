// When it connects again, when never, and how long it waits.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { settle } from './fixtures/clock.mjs';
import { fakeSocket } from './fixtures/socket.mjs';
import { outcome, start } from './fixtures/start.mjs';

/** [code, reason, whether another attempt follows]: every verdict that closes a connection, and what others may say. */
const CLOSES = [
  [1000, '', false],
  [1001, '', true],
  [1002, 'bad frame', false],
  [1003, 'binary not accepted', false],
  [1005, '', false],
  [1006, '', true],
  [1007, 'invalid utf-8', false],
  [1007, 'bad compression', false],
  [1008, 'bad envelope', false],
  [1008, 'unknown event', false],
  [1008, 'schema mismatch', false],
  [1008, 'event denied', false],
  [1008, 'rate limit', false],
  [1008, 'control frame flood', false],
  [1008, 'too many fragments', false],
  [1008, 'banned', false],
  [1008, 'session revoked', false],
  [1008, 'session expired', true],
  [1008, 'message timeout', true],
  [1008, 'slow consumer', true],
  [1008, 'slow consumer, they say', false],
  [1008, '', false],
  [1009, 'message too big', false],
  [1010, '', false],
  [1011, 'internal error', true],
  [1011, 'idle timeout', true],
  [1012, 'server restarting', true],
  [1013, '', true],
  [1014, '', true],
  [1015, '', false],
  [3000, 'unauthorized', false],
  [4000, '', false],
  [4999, '', false],
];

for (const [code, reason, isAgain] of CLOSES) {
  test(`${code} "${reason}": ${isAgain ? 'once more' : 'never again'}`, async (t) => {
    const { clock, Socket, client, states } = await start(t);
    await Socket.last.end(code, reason);
    assert.equal(client.state, isAgain ? 'reconnecting' : 'closed');
    const [, info] = states.at(-1);
    assert.deepEqual([info.code, info.reason], [code, reason]);
    await clock.advance(3_600_000);
    assert.equal(Socket.made.length > 1, isAgain);
    if (isAgain) return;
    assert.equal(clock.timers, 0);
    assert.deepEqual(await client.closed, { code, reason, failures: 1, unsent: 0 });
  });
}

test('every verdict that closes a connection is in the table above', async () => {
  const source = await readFile(new URL('../../../core/proto/src/verdict.rs', import.meta.url), 'utf8');
  const rows = [...source.matchAll(/= "(\w+)", \d+, (\d+), "([^"]+)",/g)].filter(([, , code]) => code !== '0');
  assert.ok(rows.length >= 15, `${rows.length} rows`);
  const missing = rows.filter(([, , code, reason]) => !CLOSES.some((row) => row[0] === Number(code) && row[1] === reason));
  assert.deepEqual(missing.map(([, name]) => name), []);
});

test('waits are random, double, and stay under the bound; they grow longer after eight failures', async (t) => {
  const { clock, Socket, states } = await start(t, {}, { isOpen: false });
  for (let attempt = 1; attempt <= 40; attempt += 1) {
    await Socket.last.end();
    const [state, { delayMs, failures }] = states.at(-1);
    assert.deepEqual([state, failures], ['reconnecting', attempt]);
    const bound = Math.min(attempt > 8 ? 300_000 : 30_000, 1000 * 2 ** (attempt - 1));
    assert.ok(delayMs >= 0 && delayMs <= bound, `${delayMs} after failure ${attempt}`);
    assert.equal(clock.timers, 1);
    await clock.advance(delayMs);
    assert.equal(Socket.made.length, attempt + 1);
  }
  const waits = states.map(([, { delayMs }]) => delayMs);
  assert.ok(Math.max(...waits.slice(0, 8)) > 5000 && Math.max(...waits.slice(8)) > 100_000, `${waits}`);
  assert.equal(new Set(waits).size, waits.length);
});

test('the row of failures ends with a connection that held, not with one that opened', async (t) => {
  const { clock, Socket, states } = await start(t);
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    await clock.advance(9_000);
    await Socket.last.end(1011, 'internal error');
    assert.equal(states.at(-1)[1].failures, attempt);
    await clock.next();
    await Socket.last.accept();
  }
  await clock.advance(10_000);
  await Socket.last.end(1012, 'server restarting');
  assert.equal(states.at(-1)[1].failures, 1);
  assert.ok(states.at(-1)[1].delayMs <= 1000);
});

test('a connection that held ends the row of failures also where the client left it', async (t) => {
  const { clock, Socket, client, states } = await start(t, {}, { isOpen: false });
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    await Socket.last.end();
    await clock.next();
  }
  for (const [heldMs, failures] of [[9_000, 6], [10_000, 1]]) {
    await Socket.last.accept();
    await clock.advance(heldMs);
    client.reconnect();
    await clock.advance(0);
    await Socket.last.end();
    assert.equal(states.at(-1)[1].failures, failures, `held ${heldMs} ms`);
    await clock.next();
  }
});

test('an attempt that takes too long is given up', async (t) => {
  const { clock, Socket, client } = await start(t, { openTimeoutMs: 5000 }, { isOpen: false });
  await clock.advance(4999);
  assert.equal(client.state, 'connecting');
  await clock.advance(1);
  assert.equal(client.state, 'reconnecting');
  const [first] = Socket.made;
  assert.equal(first.readyState, 2);
  await clock.next();
  assert.equal(Socket.made.length, 2);
  // The first one's end is nobody's any more, and neither is a late opening.
  await first.end();
  first.onopen({});
  await settle();
  assert.equal(Socket.made.length, 2);
  assert.equal(client.state, 'reconnecting');
  await Socket.last.accept();
  assert.equal(client.state, 'open');
});

test('retry decides, and its failure decides nothing', async (t) => {
  const asked = [];
  const retry = (ended) => {
    asked.push(ended);
    if (ended.code === 4001) return true;
    if (ended.code === 1012) return false;
    if (ended.code === 1001) throw new Error('in retry');
  };
  const { clock, Socket, client, errors } = await start(t, { retry });
  await Socket.last.end(4001, 'come back');
  await clock.next();
  await Socket.last.accept();
  await Socket.last.end(1001);
  assert.deepEqual(errors.map(String), ['Error: in retry']);
  await clock.next();
  await Socket.last.accept();
  await Socket.last.end(1012);
  assert.equal(client.state, 'closed');
  assert.deepEqual(asked.map(({ code, failures }) => [code, failures]), [[4001, 1], [1001, 2], [1012, 3]]);
});

test('a retry that takes its time is overtaken by close, and by nothing else', async (t) => {
  let decide;
  const { clock, Socket, client, states } = await start(t, { retry: () => new Promise((resolve) => (decide = resolve)) });
  await Socket.last.end(1012);
  await clock.advance(60_000);
  assert.equal(client.emit('say', 1), 'queued');
  assert.equal(Socket.made.length, 1);
  client.close();
  decide(true);
  await settle();
  assert.deepEqual(states.map(([state]) => state), ['open', 'closed']);
  assert.equal(clock.timers, 0);
});

test('Retry-After: of a probe, of a reason, of ws', async (t) => {
  const probed = [];
  const headers = { get: (name) => (name === 'retry-after' ? '120' : null) };
  const probe = async (url) => (probed.push(url), { headers });
  const { clock, Socket, states } = await start(t, { probe, token: 'secret', tokenAs: 'query' }, { isOpen: false });
  await Socket.last.end();
  assert.deepEqual(probed, ['https://chat.example/room?a=1']);
  const wait = states.at(-1)[1].delayMs;
  assert.ok(wait >= 120_000 && wait <= 121_000, `${wait}`);
  await clock.next();
  await Socket.last.accept();
  await Socket.last.end(1013, 'busy, retry after 40');
  assert.equal(probed.length, 1);
  const reasoned = states.at(-1)[1].delayMs;
  assert.ok(reasoned >= 40_000 && reasoned <= 42_000, `${reasoned}`);
});

for (const [value, least, most] of [
  ['1e9', 3_600_000, 3_601_000],
  ['Infinity', 3_600_000, 3_601_000],
  ['-5', 0, 1000],
  ['soon', 0, 1000],
  [null, 0, 1000],
  [{}, 0, 1000],
]) {
  test(`Retry-After: ${value} waits ${least} to ${most} ms`, async (t) => {
    const { clock, Socket, states } = await start(t, { probe: () => ({ headers: { get: () => value } }) }, { isOpen: false });
    await Socket.last.end();
    const { delayMs } = states.at(-1)[1];
    assert.ok(delayMs >= least && delayMs <= most, `${delayMs}`);
    assert.equal(clock.timers, 1);
  });
}

test('a probe that fails or hangs costs nothing but its answer', async (t) => {
  let asked = 0;
  let answer;
  const probe = () => ((asked += 1) === 1 ? Promise.reject(new Error('no network')) : new Promise((resolve) => (answer = resolve)));
  const { clock, Socket, client } = await start(t, { probe, openTimeoutMs: 5000 }, { isOpen: false });
  await Socket.last.end();
  assert.equal(client.state, 'reconnecting');
  await clock.next();
  await Socket.last.end();
  await clock.advance(4999);
  assert.deepEqual([asked, clock.timers], [2, 1]);
  await clock.advance(1);
  await clock.next();
  assert.equal(asked, 2);
  assert.equal(Socket.made.length, 3);
  await Socket.last.accept();
  answer({ headers: { get: () => '9' } });
  await settle();
  assert.equal(client.state, 'open');
});

/** What the class of `ws` does beside the standard. */
async function refuse(socket, statusCode, headers = {}) {
  socket.refused(null, { statusCode, headers });
  await settle();
}

const withRefusals = (Socket) =>
  class extends Socket {
    on(name, act) {
      if (name === 'unexpected-response') this.refused = act;
    }
  };

for (const [status, isAgain] of [
  [301, false], [400, false], [403, false], [404, false], [405, false], [408, true], [414, false], [421, false],
  [426, false], [429, true], [431, false], [500, true], [502, true], [503, true], [401, false],
]) {
  test(`a refusal with ${status}: ${isAgain ? 'once more' : 'never again'}`, async (t) => {
      const Socket = withRefusals(fakeSocket());
    const { client, states } = await start(t, { WebSocket: Socket, token: 'fixed' }, { isOpen: false });
    await refuse(Socket.last, status, { 'retry-after': '7' });
    assert.equal(client.state, isAgain ? 'reconnecting' : 'closed');
    assert.equal(states.at(-1)[1].status, status);
    if (isAgain) assert.ok(states.at(-1)[1].delayMs >= 7000);
  });
}

test('401: a new token once, then never again', async (t) => {
  const Socket = withRefusals(fakeSocket());
  const asked = [];
  const token = (isStale) => (asked.push(isStale), 'token');
  const { clock, client } = await start(t, { WebSocket: Socket, token }, { isOpen: false });
  await refuse(Socket.last, 401);
  assert.equal(client.state, 'reconnecting');
  await clock.next();
  await refuse(Socket.last, 401);
  assert.equal(client.state, 'closed');
  assert.deepEqual(asked, [false, true]);
});

test('the network is back, the page is looked at: at once, but once per wait, and not before Retry-After', async (t) => {
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  const world = new EventTarget();
  globalThis.document = page;
  globalThis.addEventListener = world.addEventListener.bind(world);
  t.after(() => {
    delete globalThis.document;
    delete globalThis.addEventListener;
  });
  const { clock, Socket, client } = await start(t, { minDelayMs: 1000 }, { isOpen: false, seed: 3 });
  const online = () => world.dispatchEvent(new Event('online'));
  const look = () => page.dispatchEvent(new Event('visibilitychange'));
  online();
  assert.equal(Socket.made.length, 1);
  for (let failure = 0; failure < 8; failure += 1) {
    await Socket.last.end();
    await clock.next();
  }
  await Socket.last.end();
  while (clock.untilNext < 5000) {
    await clock.next();
    await Socket.last.end();
  }
  const before = Socket.made.length;
  page.visibilityState = 'hidden';
  look();
  assert.ok(clock.untilNext >= 5000);
  page.visibilityState = 'visible';
  look();
  const soon = clock.untilNext;
  assert.ok(soon <= 1000, `${soon}`);
  online();
  look();
  assert.equal(clock.untilNext, soon);
  await clock.next();
  assert.equal(Socket.made.length, before + 1);
  await Socket.last.accept();
  online();
  await clock.advance(11_000);
  assert.equal(Socket.made.length, before + 1);
  await Socket.last.end(1013, 'retry after 600');
  online();
  assert.ok(clock.untilNext >= 600_000);
  client.close();
  online();
  look();
  assert.equal(clock.timers, 0);
  assert.deepEqual([...getEventListeners(world, 'online'), ...getEventListeners(page, 'visibilitychange')], []);
});

test('reconnect leaves the connection for a new one', async (t) => {
  const { clock, Socket, client, states } = await start(t);
  const asked = outcome(client.request('ask', 1));
  client.reconnect();
  assert.equal(Socket.last.closedWith.code, 1000);
  await clock.advance(0);
  assert.equal(asked.code, 'connection_lost');
  assert.equal(Socket.made.length, 2);
  await Socket.made[0].end(1000);
  await Socket.last.accept();
  assert.deepEqual(states.map(([state]) => state), ['open', 'reconnecting', 'open']);
  client.close();
  client.reconnect();
  assert.equal(clock.timers, 0);
  assert.equal(Socket.made.length, 2);
});

test('close is final, says its code, and throws for one that cannot be said', async (t) => {
  const { clock, Socket, client, states } = await start(t);
  assert.throws(() => client.close(1008), { name: 'InvalidAccessError' });
  assert.throws(() => client.close(4000, 'x'.repeat(124)), { name: 'SyntaxError' });
  assert.equal(client.state, 'open');
  client.close(4000, 'bye');
  assert.deepEqual(Socket.last.closedWith, { code: 4000, reason: 'bye' });
  assert.deepEqual(await client.closed, { code: 4000, reason: 'bye', unsent: 0 });
  client.close();
  await Socket.last.end(4000, 'bye');
  await clock.advance(1e6);
  assert.deepEqual(states.map(([state]) => state), ['open', 'closed']);
  assert.deepEqual([Socket.made.length, clock.timers], [1, 0]);
});

test('a signal closes: later, or before anything was done', async (t) => {
  const abort = new AbortController();
  const { clock, Socket, client } = await start(t, { signal: abort.signal });
  abort.abort();
  assert.equal(client.state, 'closed');
  assert.equal(Socket.last.closedWith.code, 1000);
  assert.equal((await client.closed).reason, 'aborted');
  assert.equal(clock.timers, 0);
});

test('a signal that was aborted before', async (t) => {
  const { clock, Socket, client } = await start(t, { signal: AbortSignal.abort() }, { isOpen: false });
  assert.deepEqual([client.state, Socket.made.length, clock.timers], ['closed', 0, 0]);
  assert.equal(client.emit('say', 1), 'refused');
});

test('a listener of the state may close, and what follows minds it', async (t) => {
  const { clock, Socket, client } = await start(t, {}, { isOpen: false });
  assert.equal(client.emit('say', 1), 'queued');
  client.onState((state) => state === 'open' && client.close());
  await Socket.last.accept();
  assert.deepEqual([client.state, Socket.last.sent.length, clock.timers], ['closed', 0, 0]);
  assert.equal((await client.closed).unsent, 1);
});

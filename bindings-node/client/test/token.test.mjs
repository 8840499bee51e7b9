// Where a token goes, when it is asked for, and how a connection changes to a new one.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { settle } from './fixtures/clock.mjs';
import { outcome, start } from './fixtures/start.mjs';

const MINUTE = 60_000;

/** A JWT that ends then; nobody checks it here. */
const jwt = (expiresAtMs, more = {}) =>
  ['{}', JSON.stringify({ exp: expiresAtMs / 1000, ...more })].map((part) => Buffer.from(part).toString('base64url')).join('.') + '.c2ln';

for (const [tokenAs, more, url, protocols, second, headers] of [
  [undefined, {}, '?a=1', ['bearer', 't0k'], ['bearer', 't0k'], null],
  ['subprotocol', { protocols: ['chat.v2'] }, '?a=1', ['bearer', 't0k', 'chat.v2'], null, null],
  ['query', {}, '?a=1&token=t0k', [], null, null],
  ['query:a', {}, '?a=t0k', [], null, null],
  ['header', {}, '?a=1', [], null, { Authorization: 'Bearer t0k' }],
  ['header', { headers: { 'X-A': 'b' } }, '?a=1', [], null, { 'X-A': 'b', Authorization: 'Bearer t0k' }],
]) {
  test(`token as ${tokenAs}, ${JSON.stringify(more)}`, async (t) => {
    const { Socket } = await start(t, { token: 't0k', ...(tokenAs && { tokenAs }), ...more });
    const { last } = Socket;
    assert.deepEqual([last.url, last.protocols], [`wss://chat.example/room${url}`, protocols]);
    assert.deepEqual(last.options.headers, headers);
  });
}

test('a token that needs it is encoded in the query', async (t) => {
  const { Socket } = await start(t, { token: 'a+b/c=&d #', tokenAs: 'query' });
  assert.equal(new URL(Socket.last.url).searchParams.get('token'), 'a+b/c=&d #');
});

for (const token of [undefined, null, '', () => null, () => undefined, async () => ({}), {}]) {
  test(`no token: ${token} ${JSON.stringify(token)}`, async (t) => {
    const { Socket, client } = await start(t, { token });
    assert.deepEqual([client.state, Socket.last.protocols], ['open', []]);
  });
}

test('it is asked for before each attempt, and told when the last one may be stale', async (t) => {
  const asked = [];
  const token = async (isStale) => (asked.push(isStale), `t${asked.length}`);
  const { clock, Socket } = await start(t, { token });
  for (const [code, reason] of [[1012, ''], [1008, 'session expired'], [1006, '']]) {
    await Socket.last.end(code, reason);
    await clock.next();
    if (reason) await Socket.last.end();
    if (reason) await clock.next();
    await Socket.last.accept();
  }
  assert.deepEqual(asked, [false, false, true, true, false]);
  assert.deepEqual(Socket.made.map(({ protocols }) => protocols[1]), ['t1', 't2', 't3', 't4', 't5']);
});

test('a token that fails is reported and tried again, and no connection is opened without it', async (t) => {
  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked === 1) throw new Error('thrown');
    if (asked === 2) return Promise.reject(new Error('rejected'));
    return 'good';
  };
  const { clock, Socket, client, errors } = await start(t, { token }, { isOpen: false });
  assert.equal(client.state, 'reconnecting');
  await clock.next();
  await clock.next();
  assert.deepEqual(errors.map(({ code, cause }) => [code, cause.message]), [['token_failed', 'thrown'], ['token_failed', 'rejected']]);
  assert.deepEqual(Socket.made.map(({ protocols }) => protocols), [['bearer', 'good']]);
});

test('a token that hangs is one failed attempt, and too late afterwards', async (t) => {
  const pending = [];
  const token = () => new Promise((resolve) => pending.push(resolve));
  const { clock, Socket, client } = await start(t, { token, openTimeoutMs: 5000 }, { isOpen: false });
  await clock.advance(5000);
  assert.equal(client.state, 'reconnecting');
  pending[0]('late');
  await settle();
  assert.equal(Socket.made.length, 0);
  await clock.next();
  pending[1]('second');
  await settle();
  assert.deepEqual(Socket.last.protocols, ['bearer', 'second']);
  client.close();
  pending[1]('again');
  assert.equal(clock.timers, 0);
});

test('closed while the token is fetched: no connection', async (t) => {
  let give;
  const { clock, Socket, client } = await start(t, { token: () => new Promise((resolve) => (give = resolve)) }, { isOpen: false });
  client.close();
  give('late');
  await settle();
  assert.deepEqual([Socket.made.length, clock.timers, client.state], [0, 0, 'closed']);
});

for (const [name, make] of [
  ['a JWT', (end) => jwt(end, { name: 'ümläut??>>' })],
  ['a stated end', (end) => ({ token: 'opaque', expiresAtMs: end })],
]) {
  test(`${name}: before it ends the connection changes to a new one, when the answers have come`, async (t) => {
    const asked = [];
    let now;
    const token = (isStale) => (asked.push(isStale), make((now?.() ?? Date.now()) + 10 * MINUTE));
    const { clock, Socket, client, states } = await start(t, { token });
    now = () => clock.now;
    await clock.advance(8 * MINUTE);
    const request = outcome(client.request('ask', 1, { timeoutMs: Infinity }));
    await clock.advance(1.5 * MINUTE);
    assert.deepEqual([asked, Socket.made.length, client.state], [[false, true], 1, 'open']);
    // Leaving: what is said now is for the next connection.
    assert.equal(client.emit('say', 'next'), 'queued');
    const [first] = Socket.made;
    // But the server's own requests are still answered here.
    client.handle('confirm', () => 'yes');
    await first.say({ event: 'confirm', id: 1 });
    assert.deepEqual(first.sent.at(-1), { event: 'confirm', id: 1, status: 'ok', data: 'yes' });
    await first.say({ event: 'ask', id: first.sent[0].id, data: 'answered' });
    assert.equal(request.value, 'answered');
    assert.equal(first.closedWith.code, 1000);
    await clock.advance(0);
    assert.deepEqual([asked.length, Socket.made.length], [2, 2]);
    await Socket.last.accept();
    assert.deepEqual(Socket.last.sent.map(({ data }) => data), ['next']);
    assert.deepEqual(states.map(([state, { reason }]) => [state, reason]), [
      ['open', undefined], ['reconnecting', 'token renewed'], ['open', undefined],
    ]);
    assert.notDeepEqual(Socket.made[0].protocols, name === 'a JWT' && Socket.made[1].protocols);
  });
}

test('the same token again changes nothing; the server ends it, and a new one is asked for', async (t) => {
  const asked = [];
  let value;
  const token = (isStale) => (asked.push(isStale), value);
  value = jwt(1_800_000_000_000 + MINUTE);
  const { clock, Socket, client } = await start(t, { token });
  await clock.advance(MINUTE);
  assert.deepEqual([asked, Socket.made.length, client.state], [[false, true], 1, 'open']);
  value = 'new';
  await Socket.last.end(1008, 'session expired');
  await clock.next();
  assert.deepEqual([asked, Socket.last.protocols[1]], [[false, true, true], 'new']);
});

test('a renewal that fails or comes too late costs nothing', async (t) => {
  const first = jwt(1_800_000_000_000 + MINUTE);
  let give;
  let token = () => first;
  const { clock, Socket, client, codes } = await start(t, { token: () => token() });
  token = () => Promise.reject(new Error('down'));
  await clock.advance(50_000);
  assert.deepEqual([codes(), client.state, clock.timers], [['token_failed'], 'open', 0]);
  token = () => jwt(clock.now + MINUTE);
  await Socket.last.end(1008, 'session expired');
  await clock.next();
  await Socket.last.accept();
  token = () => new Promise((resolve) => (give = resolve));
  await clock.next();
  await Socket.last.end(1012);
  token = () => 'opaque';
  await clock.next();
  await Socket.last.accept();
  give(jwt(clock.now + 5 * MINUTE));
  await clock.advance(MINUTE);
  assert.deepEqual([client.state, Socket.made.length, clock.timers], ['open', 3, 0]);
});

test('ends that make no sense renew nothing', async (t) => {
  for (const end of [NaN, -1, 0, 1_000_000_000_000, Infinity, 'soon', null]) {
    const { clock, client, Socket } = await start(t, { token: () => ({ token: 'opaque', expiresAtMs: end }) });
    assert.equal(client.state, 'open', `${end}`);
    await clock.advance(40 * 24 * 60 * MINUTE);
    assert.equal(Socket.made.length, 1, `${end}`);
    client.close();
  }
  for (const token of ['a.b.c', 'a..c', '.', 'a.bnVsbA.c', 'a.W10.c', 'a.eyJleHAiOiJ4In0.c']) {
    const { clock, client } = await start(t, { token: () => token });
    assert.deepEqual([client.state, clock.timers], ['open', 0], token);
    client.close();
  }
});

test('a fixed token is not renewed, but tried again after its session', async (t) => {
  const { clock, Socket, client } = await start(t, { token: jwt(1_800_000_000_000 + MINUTE) });
  assert.equal(clock.timers, 0);
  await Socket.last.end(1008, 'session expired');
  assert.equal(client.state, 'reconnecting');
});

test('tokens of a second do not make a storm: half of their life is used', async (t) => {
  let asked = 0;
  const { clock, Socket } = await start(t, { token: () => ({ token: `t${++asked}`, expiresAtMs: Date.now() + 1000 }) });
  for (let second = 0; second < 20; second += 1) {
    await clock.advance(500);
    await clock.advance(0);
    if (Socket.last.readyState === 0) await Socket.last.accept();
  }
  assert.ok(Socket.made.length <= 24, `${Socket.made.length}`);
});

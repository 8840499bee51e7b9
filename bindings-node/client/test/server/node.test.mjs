// Node: the package `ws` injected, which shows what a refusal says, and the global WebSocket, which does not.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';

import { connect } from '../../client.min.js';
import { Host, TOKEN, policy, tokens } from '../../../../tests/browser/lib/host.js';

/** Clients that are no browsers, and may state their token in each way. */
const settings = (more = {}) =>
  policy(['https://app.example'], {
    ...tokens,
    missing_origin: 'allow',
    token_sources: ['bearer', 'subprotocol', 'query:key'],
    ...more,
  });

/** A client on `ws`; `until(state)` waits for the info of the next such state. */
function client(t, url, options = {}) {
  const made = connect(url, { WebSocket, token: TOKEN, minDelayMs: 20, maxDelayMs: 200, ...options });
  t.after(() => made.close());
  const until = (wanted) =>
    new Promise((resolve) => {
      const end = made.onState((state, info) => {
        if (state !== wanted) return;
        end();
        resolve(info);
      });
    });
  return Object.assign(made, { until });
}

for (const tokenAs of ['subprotocol', 'header', 'query:key']) {
  test(`ws, the token as ${tokenAs}`, async (t) => {
    const host = await Host.start(t, settings());
    const one = client(t, host.url(), { tokenAs });
    assert.deepEqual(await one.request('echo', { a: [1] }), { a: [1] });
    assert.equal((await host.event(({ type }) => type === 'open')).user, 'alice');
    one.close(4000, 'bye');
    assert.deepEqual(await one.closed, { code: 4000, reason: 'bye', unsent: 0 });
    const { code, clean } = await host.event(({ type }) => type === 'close');
    assert.deepEqual([code, clean], [4000, true]);
  });
}

test('ws, headers: the origin of a page, say', async (t) => {
  const host = await Host.start(t, settings({ missing_origin: 'deny' }));
  const denied = client(t, host.url());
  assert.equal((await denied.closed).status, 403);
  const one = client(t, host.url(), { headers: { Origin: 'https://app.example' } });
  assert.equal(await one.request('echo', 1), 1);
});

test('ws: 401 ends it, at once with a fixed token, after a new one with a function', async (t) => {
  const host = await Host.start(t, settings());
  const fixed = await client(t, host.url(), { token: 'wrong' }).closed;
  assert.deepEqual([fixed.code, fixed.status, fixed.failures], [1006, 401, 1]);
  const asked = [];
  const renewed = client(t, host.url(), { token: (isStale) => (asked.push(isStale), isStale ? TOKEN : 'old') });
  await renewed.until('open');
  assert.deepEqual(asked, [false, true]);
});

test('ws: Retry-After of a 429 is kept', async (t) => {
  const host = await Host.start(t, settings({ handshakes_per_ip: { per_second: 0.02, burst: 1 } }));
  await client(t, host.url()).until('open');
  const { status, delayMs } = await client(t, host.url()).until('reconnecting');
  assert.equal(status, 429);
  assert.ok(delayMs > 5_000 && delayMs < 60_000, `${delayMs}`);
});

test('a probe finds Retry-After where the WebSocket shows nothing', async (t) => {
  const host = await Host.start(t, settings({ handshakes_per_ip: { per_second: 0.02, burst: 1 } }));
  await client(t, host.url()).until('open');
  const asked = [];
  const probe = (url) => (asked.push(url), fetch(url));
  // As a browser has it: no `on`, and so no refusal to look at.
  class Plain extends WebSocket {
    on(name, act) {
      return name === 'unexpected-response' ? this : super.on(name, act);
    }
  }
  const { status, delayMs } = await client(t, host.url(), { probe, WebSocket: Plain }).until('reconnecting');
  assert.deepEqual([status, asked], [undefined, [host.url().replace('ws', 'http')]]);
  assert.ok(delayMs > 5_000 && delayMs < 200_000, `${delayMs}`);
});

test('what a full queue says after an outage passes the default rate limit', async (t) => {
  const more = settings({ rate_limit: { per_second: 20, burst: 40, queue: 20 } });
  const host = await Host.start(t, more);
  const one = client(t, host.url(), { requestTimeoutMs: 30_000 });
  await one.until('open');
  const gone = one.until('reconnecting');
  await host.kill();
  await gone;
  const numbers = Array.from({ length: 32 }, (_, number) => number);
  const answers = Promise.all(numbers.map((number) => one.request('echo', number)));
  await Host.start(t, { ...more, listen: `127.0.0.1:${host.port}` });
  assert.deepEqual(await answers, numbers);
});

test('nobody there: it goes on, and nothing is thrown', async (t) => {
  const one = client(t, 'ws://127.0.0.1:1/', { requestTimeoutMs: 300 });
  await assert.rejects(one.request('echo', 1), { code: 'timeout' });
  assert.equal(one.state, 'reconnecting');
});

test('closed while it connects: no error of ws comes out', async (t) => {
  const host = await Host.start(t, settings());
  for (let turn = 0; turn < 20; turn += 1) {
    const one = client(t, host.url());
    for (let wait = 0; wait < turn; wait += 1) await new Promise(setImmediate);
    one.close();
    await one.closed;
  }
});

test('the global WebSocket: both ways of a token, refusals, a server that dies', async (t) => {
  let host = await Host.start(t, settings());
  // Node has it since 22; before, it has it behind a flag.
  const flags = 'WebSocket' in globalThis ? [] : ['--experimental-websocket', '--no-warnings'];
  const script = fileURLToPath(new URL('global.mjs', import.meta.url));
  const child = spawn(process.execPath, [...flags, script, host.url(), TOKEN], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const exit = once(child, 'exit');
  const lines = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line.trim());
    if (line.startsWith('life open') && !lines.includes('life reconnecting 1006')) {
      await host.kill();
      host = await Host.start(t, settings({ listen: `127.0.0.1:${host.port}` }));
    }
  }
  assert.equal((await exit)[0], 0);
  assert.deepEqual(lines.filter((line, at) => line !== lines[at - 1]), [
    'open', 'subprotocol subprotocol', 'closed 1000', 'open', 'header header', 'closed 1000',
    'after a wrong token: closed', 'failures 3',
    'life open', 'life reconnecting 1006', 'life open', 'back again', 'life closed 1000',
  ]);
});

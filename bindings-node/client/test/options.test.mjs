// What connect refuses, and with which words.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connect } from '../src/client.js';
import { settle } from './fixtures/clock.mjs';
import { fakeSocket } from './fixtures/socket.mjs';

const WebSocket = fakeSocket();
/** Closed at once, if it is let through against expectation. */
const attempt = (url, options) => connect(url, { signal: AbortSignal.abort(), ...options });
const refuses = (url, options, message) => assert.throws(() => attempt(url, options), { name: 'TypeError', message });

test('options that cannot be meant', () => {
  for (const [options, message] of [
    [{ tokens: 't' }, 'tokens: no such option'],
    [{ toString: 1 }, 'toString: no such option'],
    [{ constructor: 1 }, 'constructor: no such option'],
    [{ tokenAs: 'subprotokol' }, 'tokenAs: no such place'],
    [{ tokenAs: 'query:' }, 'tokenAs: no such place'],
    [{ tokenAs: 'cookie:sid' }, 'tokenAs: no such place'],
    [{ minDelayMs: -1 }, 'minDelayMs: must be 0 or more'],
    [{ maxDelayMs: NaN }, 'maxDelayMs: must be 0 or more'],
    [{ requestTimeoutMs: 'soon' }, 'requestTimeoutMs: must be 0 or more'],
    [{ maxQueuedMessages: {} }, 'maxQueuedMessages: must be 0 or more'],
  ]) {
    refuses('wss://chat.example/', { WebSocket, ...options }, message);
  }
});

test('addresses', async (t) => {
  for (const url of ['ftp://chat.example/', 'javascript:alert(1)', 'wss://chat.example/#part', 'blob:https://chat.example/x']) {
    refuses(url, { WebSocket }, 'url: must be ws or wss');
  }
  for (const url of ['', '/chat', 'chat.example', 'wss://', 5, null]) assert.throws(() => attempt(url, { WebSocket }), TypeError);
  for (const [url, resolved] of [
    ['https://chat.example/a', 'wss://chat.example/a'],
    [new URL('http://chat.example:81/?q'), 'ws://chat.example:81/?q'],
  ]) {
    const client = connect(url, { WebSocket });
    t.after(() => client.close());
    await settle();
    assert.equal(WebSocket.last.url, resolved);
  }
});

test('a page may give a path', async (t) => {
  globalThis.location = { href: 'https://app.example/page?x#y' };
  t.after(() => delete globalThis.location);
  const client = connect('/chat', { WebSocket });
  t.after(() => client.close());
  await settle();
  assert.equal(WebSocket.last.url, 'wss://app.example/chat');
});

test('undefined and null mean the default', () => {
  const client = connect('wss://chat.example/', { WebSocket, tokenAs: undefined, minDelayMs: null, signal: undefined });
  assert.equal(client.state, 'connecting');
  client.close();
});

test('without a WebSocket it says so', { skip: 'WebSocket' in globalThis && 'there is one' }, () => {
  refuses('wss://chat.example/', {}, 'WebSocket: none here');
});

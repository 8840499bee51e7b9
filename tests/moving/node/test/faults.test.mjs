// Frames that break RFC 6455: the same class and code of the error, the same close event and close frame as with ws.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { ORIGIN } from '../lib/engines.mjs';
import { WAYS, raw } from '../lib/ways.mjs';

const require = createRequire(import.meta.url);
const policy = { origins: [ORIGIN], auth: 'none', maxMessageBytes: 1_000, maxFragments: 4, closeTimeoutMs: 100 };
const HEAD = ['GET / HTTP/1.1', 'Host: app.test', `Origin: ${ORIGIN}`, 'Connection: Upgrade', 'Upgrade: websocket'];
HEAD.push('Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', '');

/** A frame that is masked with zeros. */
const frame = (first, payload = []) => [first, 0x80 | payload.length, 0, 0, 0, 0, ...payload];
const text = (bytes) => [...Buffer.from(bytes)];

const FAULTS = {
  'RSV1 without an extension': frame(0xc1, text('hi')),
  RSV2: frame(0xa1, text('hi')),
  RSV3: frame(0x91, text('hi')),
  'RSV1 on a ping': frame(0xc9),
  'opcode 3': frame(0x83),
  'opcode 11': frame(0x8b),
  'no mask': [0x81, 0x02, 0x68, 0x69],
  'a continuation of nothing': frame(0x80, text('hi')),
  'a new message within a message': [...frame(0x01, text('hi')), ...frame(0x81, text('ho'))],
  'a ping in fragments': frame(0x09, text('hi')),
  'a ping of 126 bytes': [0x89, 0xfe, 0x00, 0x7e, 0, 0, 0, 0, ...new Array(126).fill(0x61)],
  'a close frame of one byte': frame(0x88, [0x03]),
  'close code 1005': frame(0x88, [0x03, 0xed]),
  'close code 999': frame(0x88, [0x03, 0xe7]),
  'close code 5000': frame(0x88, [0x13, 0x88]),
  'a close reason that is not UTF-8': frame(0x88, [0x03, 0xe8, 0xff]),
  'a text that is not UTF-8': frame(0x81, [0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xcf, 0x83, 0xce, 0xbc, 0xce, 0xb5, 0xed, 0xa0, 0x80]),
  'a text that ends within a character': frame(0x81, [0xce]),
  'a message over maxMessageBytes': [0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0],
  'a message over maxMessageBytes, in fragments': [...frame(0x02, new Array(125).fill(1)), ...[0x80, 0xfe, 0x03, 0xe9, 0, 0, 0, 0]],
  'more than maxFragments': [...frame(0x02, [1]), ...Array.from({ length: 4 }, () => frame(0x00, [1])).flat()],
};

/** What the application hears, and the code of the close frame that the peer gets. */
async function provoke(t, way, WebSocketServer, bytes) {
  const { wss, dial } = await WAYS[way](t, WebSocketServer, { policy, maxPayload: 1_000, maxFragments: 4 });
  const heard = [];
  const closed = new Promise((resolve) => {
    wss.on('connection', (ours) => {
      ours.on('message', (data) => heard.push(['message', String(data)]));
      ours.on('error', ({ name, code }) => heard.push(['error', name, code]));
      ours.on('close', (code, reason) => resolve(heard.push(['close', code, String(reason)])));
    });
  });
  const stream = raw(t, dial);
  stream.on('error', () => {}).on('end', () => stream.end());
  stream.write(Buffer.concat([Buffer.from(HEAD.join('\r\n')), Buffer.from(frame(0x81, text('fine'))), Buffer.from(bytes)]));
  let received = Buffer.alloc(0);
  stream.on('data', (chunk) => (received = Buffer.concat([received, chunk])));
  await Promise.all([closed, new Promise((resolve) => stream.on('end', resolve).on('close', resolve))]);
  const at = received.indexOf('\r\n\r\n') + 4;
  return { heard, frame: received.length > at ? received.readUInt16BE(at + 2) : undefined };
}

for (const way of ['port', 'server', 'https', 'in-memory pair']) {
  for (const [name, bytes] of Object.entries(FAULTS)) {
    test(`${way}: ${name}`, { timeout: 30_000 }, async (t) => {
      const onWs = await provoke(t, way, require('ws').WebSocketServer, bytes);
      const onGuard = await provoke(t, way, require('wsguard/ws').WebSocketServer, bytes);
      assert.deepEqual(onGuard, onWs);
    });
  }
}

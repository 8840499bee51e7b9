// Whatever a server sends, the client stays open, calls nobody by mistake and keeps nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connect } from '../src/client.js';
import { Clock, settle } from './fixtures/clock.mjs';
import { fakeSocket } from './fixtures/socket.mjs';
import { outcome, start } from './fixtures/start.mjs';

const NO_MESSAGES = [
  '', 'x', '{', 'null', 'true', '5', '"text"', '[]', '[{"event":"said"}]', '{}', '{"event":null}', '{"event":5}',
  '{"event":["said"]}', '{"event":{"toString":1}}', '{"data":1}', '{"event":"said","id":{}}', '{"event":"said","id":null}',
  '{"event":"said","id":true}', '{"event":"said","id":["~1"]}', '{"event":"said"}{"event":"said"}', '\u0000',
  '{"__proto__":{"event":"said"}}', '{"constructor":{"event":"said"}}', '['.repeat(100_000), '{"event":'.repeat(50_000),
];

test('what is no message is reported, without what it said', async (t) => {
  const { Socket, client, errors } = await start(t);
  client.on('said', () => assert.fail('was called'));
  client.handle('said', () => assert.fail('was called'));
  for (const text of NO_MESSAGES) await Socket.last.say(text);
  assert.deepEqual(errors.map(({ code, message }) => [code, message]), NO_MESSAGES.map(() => ['bad_message', 'bad message']));
  assert.equal(client.state, 'open');
  assert.deepEqual(Socket.last.sent, []);
  // The parser of V8 quotes what it read.
  await Socket.last.say('{"event": s3cret}');
  const { cause, message, stack } = errors.at(-1);
  assert.ok(!`${cause} ${message} ${stack}`.includes('s3cret'));
});

test('binary messages and objects in place of texts', async (t) => {
  const { Socket, client, codes } = await start(t);
  client.on('said', () => assert.fail('was called'));
  for (const data of [new ArrayBuffer(4), new Blob(['{"event":"said"}']), Buffer.from('{"event":"said"}'), undefined, { event: 'said' }]) {
    Socket.last.onmessage({ data });
  }
  assert.deepEqual(codes(), Array(5).fill('bad_message'));
});

test('a message over maxMessageLength is not parsed', async (t) => {
  const { Socket, client, codes } = await start(t, { maxMessageLength: 100 });
  const heard = [];
  client.on('said', (data) => heard.push(data.length));
  const message = (length) => JSON.stringify({ event: 'said', data: 'x'.repeat(length) });
  const frame = message(0).length;
  await Socket.last.say(message(100 - frame));
  await Socket.last.say(message(101 - frame));
  assert.deepEqual([heard, codes()], [[100 - frame], ['bad_message']]);
});

test('names of Object.prototype are events like others, and pollute nothing', async (t) => {
  const { Socket, client, errors } = await start(t);
  const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf', 'then'];
  for (const event of names) await Socket.last.say(`{"event":"${event}","id":"${event}","data":{"__proto__":{"polluted":1}}}`);
  const heard = [];
  for (const event of names) client.on(event, (data, meta) => heard.push(meta.event));
  for (const event of names) await Socket.last.say({ event });
  assert.deepEqual([heard, errors, {}.polluted], [names, [], undefined]);
});

test('ids of nobody, of the past and of the queue settle nothing', async (t) => {
  const { clock, Socket, client, errors } = await start(t);
  const done = outcome(client.request('ask', 1));
  const [{ id }] = Socket.last.sent;
  await Socket.last.say({ event: 'ask', id, data: 'done' });
  const open = outcome(client.request('ask', 2));
  for (const other of ['~', '~0', '~-1', '~99', '~1e3', '~__proto__', '__proto__', 2, 2.5, -1, 'x'.repeat(1000), id, ` ${id}`]) {
    await Socket.last.say({ event: 'ask', id: other, status: 'ok', data: 'no' });
  }
  assert.deepEqual([done.settled, done.value, open.settled, errors.length], [1, 'done', 0, 0]);
  await Socket.last.end(1012);
  // It waits for the next connection: who guesses its id there has still not seen it.
  await clock.next();
  const queued = outcome(client.request('ask', 3));
  let guessed = 0;
  client.onState(async (state) => {
    if (state !== 'open') return;
    guessed += 1;
    await Socket.last.say({ event: 'ask', id: '~3', data: 'guessed' });
  });
  await Socket.last.accept();
  assert.deepEqual([guessed, queued.settled, Socket.last.sent.map((sent) => sent.id)], [1, 0, ['~3']]);
});

test('any status is no error but "error"; an error without a request is reported', async (t) => {
  const { Socket, client, errors } = await start(t);
  const heard = [];
  client.on('said', (data) => heard.push(data));
  for (const status of ['ok', '', 'ERROR', 5, null, {}, ['error']]) await Socket.last.say({ event: 'said', status, data: status });
  await Socket.last.say({ event: 'said', status: 'error', data: { code: 'schema_mismatch', path: '' } });
  assert.equal(heard.length, 7);
  assert.deepEqual(errors.map(({ code, event, data }) => [code, event, data.code]), [['rejected', 'said', 'schema_mismatch']]);
});

test('a flood of requests of the server, each answered once', async (t) => {
  const { Socket, client } = await start(t);
  client.handle('confirm', (data) => data);
  for (let id = 0; id < 1000; id += 1) Socket.last.onmessage({ data: JSON.stringify({ event: 'confirm', id: id % 10, data: id }) });
  await Socket.last.say({ event: 'confirm', id: 'last' });
  assert.deepEqual(Socket.last.sent.map(({ data }) => data), [...Array(1000).keys(), null]);
});

test('reasons and codes of any kind', async (t) => {
  const { clock, Socket, client } = await start(t);
  for (const [code, reason] of [
    [1012, 'retry after 99999999999999999999'],
    [1012, 'retry after '.repeat(10)],
    [1006, undefined],
    [1012, { toString: () => 'retry after 5' }],
  ]) {
    await Socket.last.end(code, reason);
    assert.equal(client.state, 'reconnecting', `${code}`);
    assert.ok(clock.untilNext <= 3_600_000 + 8_000);
    await clock.next();
    await Socket.last.accept();
  }
  Socket.last.onclose({});
  await settle();
  assert.equal(client.state, 'closed');
});

test('a socket that throws in its constructor ends it, and its words do not come out', async (t) => {
  const clock = Clock.install(t);
  const Socket = fakeSocket();
  Socket.refusal = new SyntaxError('the subprotocol "s3cret/" is invalid');
  const client = connect('wss://chat.example/', { WebSocket: Socket, token: 's3cret/' });
  const { error, ...rest } = await client.closed;
  assert.deepEqual([rest, error.code], [{ code: 1006, reason: '', unsent: 0 }, 'bad_argument']);
  assert.ok(!`${error.stack} ${JSON.stringify(error)} ${error.cause}`.includes('s3cret'));
  assert.equal(clock.timers, 0);
});

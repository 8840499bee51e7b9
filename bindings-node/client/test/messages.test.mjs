// The envelope: events, requests both ways, the offline queue.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';

import { ClientError } from '../src/client.js';
import { settle } from './fixtures/clock.mjs';
import { outcome, start } from './fixtures/start.mjs';

test('events go out as they are said, and come to their listeners', async (t) => {
  const { Socket, client } = await start(t);
  assert.equal(client.emit('say', { text: 'hello' }), 'sent');
  assert.equal(client.emit('leave'), 'sent');
  assert.deepEqual(Socket.last.sent, [{ event: 'say', data: { text: 'hello' } }, { event: 'leave' }]);
  const heard = [];
  const listener = (...values) => heard.push(values);
  const end = client.on('said', listener);
  client.on('said', listener);
  client.once('said', () => heard.push('once'));
  await Socket.last.say({ event: 'said', data: 1, status: 'ok' });
  await Socket.last.say({ event: 'said' });
  await Socket.last.say({ event: 'other', data: 3 });
  end();
  end();
  await Socket.last.say({ event: 'said', data: 4 });
  const meta = { event: 'said', id: undefined };
  assert.deepEqual(heard, [[1, meta], 'once', [null, meta]]);
});

test('a listener that is taken off hears nothing, also one for a single message', async (t) => {
  const { Socket, client } = await start(t);
  const never = () => assert.fail('was called');
  client.once('said', never);
  client.off('said', never);
  client.off('unheard', never);
  await Socket.last.say({ event: 'said' });
});

test('what listeners throw or reject with is reported, and the others are called', async (t) => {
  const { Socket, client, errors } = await start(t);
  const heard = [];
  client.on('said', () => {
    throw new Error('thrown');
  });
  client.on('said', async () => {
    throw new Error('rejected');
  });
  client.on('said', () => heard.push('last'));
  client.onState(() => {
    throw new Error('of state');
  });
  await Socket.last.say({ event: 'said' });
  assert.deepEqual(heard, ['last']);
  client.close();
  await settle();
  assert.deepEqual(errors.map(({ message }) => message), ['thrown', 'rejected', 'of state']);
});

test('an onError that throws harms nothing', async (t) => {
  const { Socket, client } = await start(t, {
    onError() {
      throw new Error('in onError');
    },
  });
  await Socket.last.say('no JSON');
  assert.equal(client.state, 'open');
});

test('a request is answered by its id, whatever the event', async (t) => {
  const { clock, Socket, client } = await start(t);
  const [first, second, third] = ['a', 'b', 'c'].map((data) => outcome(client.request('ask', data)));
  const ids = Socket.last.sent.map(({ id }) => id);
  assert.equal(new Set(ids).size, 3);
  client.on('ask', () => assert.fail('an answer is no event'));
  await Socket.last.say({ event: 'ask', id: ids[1], status: 'ok', data: 'B' });
  await Socket.last.say({ event: 'other', id: ids[0], status: 'ok' });
  await Socket.last.say({ event: 'ask', id: ids[2], status: 'error', data: { code: 'schema_mismatch', path: '/a' } });
  await Socket.last.say({ event: 'ask', id: ids[1], status: 'ok', data: 'again' });
  assert.deepEqual([first.value, second.value], [null, 'B']);
  assert.ok(third.error instanceof ClientError);
  const { code, event, data, message } = third.error;
  assert.deepEqual([code, event, data, message], ['rejected', 'ask', { code: 'schema_mismatch', path: '/a' }, 'rejected']);
  assert.deepEqual([first.settled, second.settled, third.settled, clock.timers], [1, 1, 1, 0]);
});

test('a request times out, and its late answer is nobody\'s', async (t) => {
  const { clock, Socket, client, errors } = await start(t);
  const usual = outcome(client.request('ask', 1));
  const short = outcome(client.request('ask', 2, { timeoutMs: 50 }));
  const endless = outcome(client.request('ask', 3, { timeoutMs: Infinity }));
  client.handle('ask', () => assert.fail('no request of the server'));
  client.on('ask', () => assert.fail('no event'));
  await clock.advance(50);
  assert.deepEqual([short.code, usual.settled], ['timeout', 0]);
  await clock.advance(9950);
  assert.deepEqual([usual.code, endless.settled], ['timeout', 0]);
  for (const { id } of Socket.last.sent.slice(0, 2)) await Socket.last.say({ event: 'ask', id, status: 'ok' });
  await Socket.last.say({ event: 'ask', id: Socket.last.sent[0].id, status: 'error' });
  assert.deepEqual(errors, []);
  await Socket.last.say({ event: 'ask', id: Socket.last.sent[2].id, data: 'at last' });
  assert.equal(endless.value, 'at last');
});

test('a request ends with its connection, with the client, with its signal', async (t) => {
  const { clock, Socket, client } = await start(t);
  const abort = new AbortController();
  const sent = outcome(client.request('ask', 1));
  await Socket.last.end(1012);
  const queued = outcome(client.request('ask', 2));
  const aborted = outcome(client.request('ask', 3, { signal: abort.signal }));
  const never = outcome(client.request('ask', 4, { signal: AbortSignal.abort('before') }));
  abort.abort(new Error('by hand'));
  await settle();
  assert.deepEqual([sent.code, aborted.error.message, never.error], ['connection_lost', 'by hand', 'before']);
  await clock.next();
  await Socket.last.accept();
  assert.deepEqual(Socket.last.sent.map(({ data }) => data), [2]);
  const waiting = outcome(client.request('ask', 5, { signal: abort.signal }));
  await settle();
  assert.equal(waiting.settled, 1);
  client.close();
  await settle();
  assert.deepEqual([queued.code, queued.settled], ['connection_lost', 1]);
  const late = outcome(client.request('ask', 6));
  await settle();
  assert.equal(late.code, 'closed');
  assert.equal(clock.timers, 0);
});

test('a signal that lives long keeps nothing of what is over', async (t) => {
  const { signal } = new AbortController();
  const { Socket, client } = await start(t, { signal });
  const count = () => getEventListeners(signal, 'abort').length;
  assert.equal(count(), 1);
  const asked = [1, 2, 3].map((data) => outcome(client.request('ask', data, { signal })));
  assert.equal(count(), 4);
  await Socket.last.say({ event: 'ask', id: Socket.last.sent[0].id });
  await Socket.last.say({ event: 'ask', id: Socket.last.sent[1].id, status: 'error' });
  assert.deepEqual([count(), asked[2].settled], [2, 0]);
  client.close();
  assert.equal(count(), 0);
});

test('a request that times out in the queue is not sent any more', async (t) => {
  const { clock, Socket, client } = await start(t, {}, { isOpen: false });
  const late = outcome(client.request('ask', 1, { timeoutMs: 100 }));
  const patient = outcome(client.request('ask', 2));
  await clock.advance(100);
  assert.equal(late.code, 'timeout');
  await Socket.last.accept();
  assert.deepEqual(Socket.last.sent.map(({ data }) => data), [2]);
  await Socket.last.say({ event: 'ask', id: Socket.last.sent[0].id });
  assert.equal(patient.settled, 1);
});

test('a request that nobody awaits rejects for nobody', async (t) => {
  const unhandled = [];
  const listener = (error) => unhandled.push(error);
  process.on('unhandledRejection', listener);
  t.after(() => process.off('unhandledRejection', listener));
  const { client, Socket } = await start(t);
  void client.request('ask', 1);
  await Socket.last.end(1000);
  await settle();
  await settle();
  assert.deepEqual(unhandled, []);
});

test('what is no JSON throws or rejects, and sends nothing', async (t) => {
  const { clock, Socket, client } = await start(t);
  const circle = {};
  circle.circle = circle;
  for (const data of [1n, circle]) {
    assert.throws(() => client.emit('say', data), TypeError);
    await assert.rejects(client.request('ask', data), TypeError);
  }
  assert.throws(() => client.emit(5), { name: 'TypeError', message: 'event: must be a string' });
  assert.throws(() => client.on('say'), TypeError);
  assert.deepEqual([Socket.last.sent.length, clock.timers], [0, 0]);
});

test('the queue keeps order, waits for the listeners of open, and is sent once', async (t) => {
  const { clock, Socket, client } = await start(t, {}, { isOpen: false });
  client.onState((state) => state === 'open' && assert.equal(client.emit('join', 'lobby'), 'sent'));
  for (let number = 0; number < 5; number += 1) assert.equal(client.emit('say', number), 'queued');
  await Socket.last.accept();
  const said = () => Socket.last.sent.map(({ event, data }) => `${event} ${data}`);
  assert.deepEqual(said(), ['join lobby', 'say 0', 'say 1', 'say 2', 'say 3', 'say 4']);
  await Socket.last.end(1012);
  await clock.next();
  await Socket.last.accept();
  assert.deepEqual(said(), ['join lobby']);
});

test('while a close frame is on its way nothing is lost in the socket', async (t) => {
  const { clock, Socket, client } = await start(t);
  Socket.last.readyState = 2;
  assert.equal(client.emit('say', 1), 'queued');
  await Socket.last.end(1012);
  await clock.next();
  await Socket.last.accept();
  assert.deepEqual([Socket.made[0].discarded, Socket.last.sent.length], [[], 1]);
});

test('beyond the bound in messages the oldest is refused, and told so', async (t) => {
  const { Socket, client, errors } = await start(t, { maxQueuedMessages: 3 }, { isOpen: false });
  const first = outcome(client.request('ask', 'first'));
  for (const data of [1, 2, 3, 4]) assert.equal(client.emit('say', data), 'queued');
  await settle();
  assert.equal(first.code, 'queue_full');
  assert.deepEqual(errors.map(({ code, event }) => [code, event]), [['queue_full', 'say']]);
  await Socket.last.accept();
  assert.deepEqual(Socket.last.sent.map(({ data }) => data), [2, 3, 4]);
});

test('beyond the bound in bytes of UTF-8 too; what is larger than the queue is refused itself', async (t) => {
  const { Socket, client, codes } = await start(t, { maxQueuedBytes: 200 }, { isOpen: false });
  assert.equal(client.emit('say', 'a'.repeat(100)), 'queued');
  assert.equal(client.emit('say', '€'.repeat(50)), 'queued');
  assert.deepEqual(codes(), ['queue_full']);
  assert.equal(client.emit('say', 'x'.repeat(200)), 'refused');
  assert.deepEqual(codes(), ['queue_full', 'queue_full', 'queue_full']);
  const large = outcome(client.request('ask', 'x'.repeat(200)));
  await settle();
  assert.deepEqual([large.code, large.settled], ['queue_full', 1]);
  await Socket.last.accept();
  assert.deepEqual(Socket.last.sent, []);
});

test('a queue of nothing refuses everything', async (t) => {
  const { client, codes } = await start(t, { maxQueuedMessages: 0 }, { isOpen: false });
  assert.equal(client.emit('say', 1), 'refused');
  assert.deepEqual(codes(), ['queue_full']);
});

test('what was not sent is counted at the end', async (t) => {
  const { clock, client } = await start(t, {}, { isOpen: false });
  client.emit('say', 1);
  const asked = outcome(client.request('ask', 1));
  client.close();
  await settle();
  assert.equal((await client.closed).unsent, 2);
  assert.deepEqual([asked.code, client.emit('say', 2), clock.timers], ['closed', 'refused', 0]);
});

test('requests of the server are answered, on the connection they came on', async (t) => {
  const { clock, Socket, client, errors } = await start(t);
  let finish;
  client.handle('confirm', async (question, { event, id }) => {
    if (question === 'later') await new Promise((resolve) => (finish = resolve));
    if (question === 'fail') throw new Error('secret detail');
    if (question === 'busy') throw new ClientError('failed', { data: { code: 'busy' } });
    if (question === 'no JSON') return 1n;
    return { question, event, id };
  });
  client.on('confirm', () => assert.fail('a handler has it'));
  for (const [id, data] of ['sure?', 'fail', 'busy', 'no JSON'].entries()) {
    await Socket.last.say({ event: 'confirm', id, data, status: 'ok' });
  }
  assert.deepEqual(Socket.last.sent, [
    { event: 'confirm', id: 0, status: 'ok', data: { question: 'sure?', event: 'confirm', id: 0 } },
    { event: 'confirm', id: 1, status: 'error', data: { code: 'failed' } },
    { event: 'confirm', id: 2, status: 'error', data: { code: 'busy' } },
    { event: 'confirm', id: 3, status: 'error', data: { code: 'failed' } },
  ]);
  assert.equal(errors.length, 3);
  await Socket.last.say({ event: 'confirm', id: 'x', data: 'later' });
  await Socket.last.end(1012);
  await clock.next();
  await Socket.last.accept();
  finish();
  await settle();
  assert.deepEqual(Socket.last.sent, []);
});

test('without a handler, or without an id, it is an event; error data that is no JSON is reported', async (t) => {
  const { Socket, client, errors } = await start(t);
  const heard = [];
  client.on('confirm', (data, { id }) => heard.push([data, id]));
  await Socket.last.say({ event: 'confirm', id: 7, data: 1 });
  client.handle('confirm', () => {
    throw Object.assign(new Error('no'), { data: 1n });
  });
  await Socket.last.say({ event: 'confirm', data: 2 });
  await Socket.last.say({ event: 'confirm', id: 8 });
  client.handle('confirm', null);
  await Socket.last.say({ event: 'confirm', id: 9, data: 3 });
  assert.deepEqual(heard, [[1, 7], [2, undefined], [3, 9]]);
  assert.deepEqual(Socket.last.sent, []);
  assert.equal(errors.length, 2);
});

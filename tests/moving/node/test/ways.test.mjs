// Every way that an upgrade can reach a WebSocketServer, with the same echo.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, refused } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded } from '../lib/engines.mjs';
import { WAYS, raw } from '../lib/ways.mjs';

// Echoes of 4 MB come back faster than a peer in the same process reads them.
const policy = { origins: [ORIGIN], auth: 'none', rateLimit: null, maxMessageBytes: 131_072, maxOutboxBytes: 8_388_608 };

function echo(wss) {
  wss.on('connection', (ws) => {
    ws.on('error', () => {});
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  });
  return wss;
}

for (const [way, serve] of Object.entries(WAYS)) {
  onEach(`${way}: text, binary, large messages, ping, subprotocol, close from either side`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, { policy, handleProtocols: (offered) => [...offered].at(-1) });
    const served = once(echo(wss), 'connection');
    const ws = await connect(t, url, { ...options, protocols: ['first', 'second'] });
    const [ours, request] = await served;
    assert.equal(ws.protocol, 'second');
    assert.equal(ours.protocol, 'second');
    assert.equal(request.headers.origin, ORIGIN);
    assert.equal(wss.clients.size, 1);
    ws.send('héllo');
    assert.equal(await ws.next(), 'héllo');
    // More than the kernel or a pipe holds at once, in both directions at once.
    const large = Array.from({ length: 30 }, (_, n) => Buffer.alloc(131_072, n));
    for (const message of large) ws.send(message);
    for (const message of large) assert.ok((await ws.next()).equals(message));
    const [pinged, ponged] = [once(ours, 'ping'), once(ws, 'pong')];
    ws.ping('one');
    assert.equal(String((await pinged)[0]), 'one');
    assert.equal(String((await ponged)[0]), 'one');
    const answered = once(ours, 'pong');
    ours.ping('two');
    assert.equal(String((await answered)[0]), 'two');
    const ended = once(ours, 'close');
    ws.close(4001, 'bye');
    const [code, reason] = await ended;
    assert.deepEqual([code, String(reason)], [4001, 'bye']);
    // The answer to a close frame has its code; ws sends the reason back, too.
    assert.deepEqual(await ws.ended, { code: 4001, reason: engine.isGuarded ? '' : 'bye' });
    assert.equal(wss.clients.size, 0);

    const opened = once(wss, 'connection');
    const next = await connect(t, url, options);
    const [theirs] = await opened;
    theirs.send('last words');
    theirs.close(4002, 'go');
    assert.equal(await next.next(), 'last words');
    assert.deepEqual(await next.ended, { code: 4002, reason: 'go' });
  });

  onEach(`${way}: frames that come in one piece with the handshake are read`, async (t, engine) => {
    const { wss, dial } = await serve(t, engine.load().WebSocketServer, { policy });
    echo(wss);
    const stream = raw(t, dial);
    const head = ['GET / HTTP/1.1', 'Host: app.test', `Origin: ${ORIGIN}`, 'Connection: Upgrade', 'Upgrade: websocket'];
    head.push('Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', '');
    // "hi" and "ho", masked with zeros.
    const frames = [0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69, 0x81, 0x82, 0, 0, 0, 0, 0x68, 0x6f];
    stream.write(Buffer.concat([Buffer.from(head.join('\r\n')), Buffer.from(frames)]));
    let received = '';
    for await (const chunk of stream) {
      received += chunk.toString('latin1');
      if (received.endsWith('\x81\x02hi\x81\x02ho')) break;
    }
    assert.match(received, /^HTTP\/1\.1 101 .*\r\n\r\n\x81\x02hi\x81\x02ho$/s);
  });

  onEach(`${way}: what the application sends at once is not lost`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, { policy });
    wss.on('connection', (ws) => {
      for (let n = 0; n < 10; n++) ws.send(`${n}`);
      ws.close(1000);
    });
    const ws = await connect(t, url, options);
    for (let n = 0; n < 10; n++) assert.equal(await ws.next(), `${n}`);
    assert.equal((await ws.ended).code, 1000);
  });

  onEach(`${way}: verifyClient has the last word, and maxPayload closes with 1009`, async (t, engine) => {
    const asked = [];
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, {
      policy,
      maxPayload: 1_000,
      verifyClient: ({ origin, secure, req }, answer) => {
        asked.push([origin, secure, req.headers['x-ticket']]);
        answer(req.headers['x-ticket'] === 'good', 402, 'pay first', { 'x-because': 'no ticket' });
      },
    });
    echo(wss);
    assert.equal(await refused(url, options), 402);
    const failed = once(wss, 'connection').then(([ws]) => once(ws, 'error'));
    const ws = await connect(t, url, { ...options, headers: { 'x-ticket': 'good' } });
    ws.send('x'.repeat(1_000));
    assert.equal((await ws.next()).length, 1_000);
    ws.send('x'.repeat(1_001));
    assert.equal((await ws.ended).code, 1009);
    assert.equal((await failed)[0].code, 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
    const secure = way === 'https';
    assert.deepEqual(asked, [[ORIGIN, secure, undefined], [ORIGIN, secure, 'good']]);
  });

  onEach(`${way}: a peer that vanishes`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, { policy });
    const served = once(echo(wss), 'connection');
    const ws = await connect(t, url, options);
    const ended = once((await served)[0], 'close');
    ws.terminate();
    assert.equal((await ended)[0], 1006);
    assert.equal(wss.clients.size, 0);
  });

  onEach(`${way}: pause() holds the peer back, and nothing is lost`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, { policy });
    const first = once(wss, 'connection');
    const ws = await connect(t, url, options);
    const [ours] = await first;
    const received = [];
    ours.pause();
    assert.equal(ours.isPaused, true);
    ours.on('message', (data) => received.push(data[0]));
    const sent = Array.from({ length: 200 }, (_, n) => n);
    for (const n of sent) ws.send(Buffer.alloc(131_072, n));
    // Two round trips of another connection later, all that is going to be taken is taken.
    const second = once(wss, 'connection');
    const other = await connect(t, url, options);
    (await second)[0].on('message', (data) => other.emit('told', data));
    for (let n = 0; n < 2; n++) {
      other.send('told');
      await once(other, 'told');
    }
    assert.ok(ws.bufferedAmount > 1_000_000, `${ws.bufferedAmount} bytes wait with the peer`);
    assert.ok(received.length < 20, `${received.length} messages came while paused`);
    ours.resume();
    const last = new Promise((resolve) => ours.on('message', () => received.length === sent.length && resolve()));
    await last;
    assert.deepEqual(received, sent);
  });

  onGuarded(`${way}: who does not read is closed`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, { policy: { ...policy, maxOutboxBytes: 1_048_576, closeTimeoutMs: 100 } });
    const served = once(wss, 'connection');
    const ws = await connect(t, url, options);
    const [ours] = await served;
    const ended = once(ours, 'close');
    ws.pause();
    let count = 0;
    while (ours.readyState === ours.OPEN && ++count < 5_000) {
      ours.send(Buffer.alloc(131_072));
      await new Promise(setImmediate);
    }
    assert.ok([1006, 1008].includes((await ended)[0]));
    assert.equal(wss.clients.size, 0);
  });

  onGuarded(`${way}: a foreign page is refused before the application hears of it`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, {
      policy: { ...policy, subprotocols: ['chat'] },
      verifyClient: () => assert.fail('verifyClient was asked'),
      handleProtocols: () => assert.fail('handleProtocols was asked'),
    });
    wss.on('headers', () => assert.fail('headers were told'));
    wss.on('connection', () => assert.fail('a connection was told'));
    for (const origin of ['http://evil.test', 'null', undefined]) {
      assert.equal(await refused(url, { ...options, protocols: ['chat'], origin }), 403);
    }
    assert.equal(wss.clients.size, 0);
  });

  onGuarded(`${way}: a token is demanded, and the application learns whose it is`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, {
      policy: { ...policy, auth: { tokens: [{ token: 'change-me', user: 'alice' }] } },
    });
    echo(wss);
    assert.equal(await refused(url, options), 401);
    assert.equal(await refused(url, { ...options, headers: { authorization: 'Bearer guessed' } }), 401);
    const ws = await connect(t, url, { ...options, headers: { authorization: 'Bearer change-me' } });
    ws.send('in');
    assert.equal(await ws.next(), 'in');
  });

  onGuarded(`${way}: floods are closed with 1008`, async (t, engine) => {
    const { wss, dial: { url, ...options } } = await serve(t, engine.load().WebSocketServer, {
      policy: { ...policy, rateLimit: { perSecond: 1, burst: 3, queue: 0 } },
    });
    echo(wss);
    const ws = await connect(t, url, options);
    for (let n = 0; n < 6; n++) ws.send(`${n}`);
    assert.deepEqual(await ws.ended, { code: 1008, reason: 'rate limit' });
  });
}

for (const way of ['port', 'server', 'https']) {
  onGuarded(`${way}: behind a trusted proxy, ws.wsguard has the address of the client`, async (t, engine) => {
    const auth = { tokens: [{ token: 'change-me', user: 'alice', roles: ['admin'] }] };
    const { wss, dial: { url, ...options } } = await WAYS[way](t, engine.load().WebSocketServer, {
      policy: { ...policy, auth, trustedProxies: ['127.0.0.1'], maxConnectionsPerIp: 1 },
    });
    for (const address of ['203.0.113.7', '203.0.113.8']) {
      const served = once(wss, 'connection');
      const headers = { authorization: 'Bearer change-me', 'x-forwarded-for': address };
      await connect(t, url, { ...options, headers });
      const [{ wsguard }] = await served;
      assert.deepEqual([wsguard.ip, wsguard.user, wsguard.roles], [address, 'alice', ['admin']]);
      assert.equal(await refused(url, { ...options, headers }), 429);
    }
  });
}

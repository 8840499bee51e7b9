import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { io as dial } from 'socket.io-client';
import { WebSocket } from 'ws';
import { refused } from '../lib/client.mjs';
import { ORIGIN, onEach, onGuarded, start, stop } from '../lib/engines.mjs';

async function join(t, address, name, options = {}) {
  const socket = dial(`http://${address}`, {
    auth: { name },
    extraHeaders: { origin: ORIGIN },
    forceNew: true,
    reconnectionDelay: 10,
    reconnectionDelayMax: 50,
    ...options,
  });
  t.after(() => socket.close());
  await new Promise((resolve, fail) => {
    socket.on('connect', resolve);
    socket.on('connect_error', (error) => options.reconnection === false && fail(error));
  });
  return socket;
}

const TRANSPORTS = { 'websocket only': ['websocket'], 'polling first': ['polling', 'websocket'] };
for (const [name, transports] of Object.entries(TRANSPORTS)) {
  onEach(`Socket.IO, ${name}: rooms, acknowledgements, binary, middleware`, async (t, engine) => {
    const chat = await start(t, engine, 'socketio.mjs');
    const [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map((who) => join(t, chat.address, who, { transports })));
    for (const { io: { engine: transport } } of [alice, bob, carol]) {
      if (transport.transport.name !== 'websocket') await once(transport, 'upgrade');
      assert.equal(transport.transport.name, 'websocket');
    }
    assert.deepEqual(await alice.emitWithAck('join', 'lobby'), { members: 1 });
    assert.deepEqual(await bob.emitWithAck('join', 'lobby'), { members: 2 });
    carol.on('said', () => assert.fail('carol is in no room'));
    const heard = once(bob, 'said');
    assert.equal(await alice.emitWithAck('say', 'lobby', 'hello'), 'sent');
    assert.deepEqual(await heard, [{ name: 'alice', text: 'hello' }]);
    const seen = once(alice, 'drawn');
    const drawing = Buffer.from(Array.from({ length: 20_000 }, (_, n) => n & 255));
    bob.emit('draw', 'lobby', drawing);
    const [who, bytes] = await seen;
    assert.equal(who, 'bob');
    assert.deepEqual(Buffer.from(bytes), drawing);
    // An acknowledgement of carol's passes behind all that she could have heard.
    assert.deepEqual(await carol.emitWithAck('join', 'attic'), { members: 1 });
    await assert.rejects(join(t, chat.address, 'not a name!', { transports, reconnection: false }), /a name, please/);
  });
}

onEach('Socket.IO: reconnects after the transport broke', async (t, engine) => {
  const chat = await start(t, engine, 'socketio.mjs');
  const alice = await join(t, chat.address, 'alice', { transports: ['websocket'] });
  const before = alice.id;
  const again = once(alice, 'connect');
  alice.io.engine.transport.ws.terminate();
  await again;
  assert.notEqual(alice.id, before);
  assert.deepEqual(await alice.emitWithAck('join', 'lobby'), { members: 1 });
});

onEach('Socket.IO: the server closes', async (t, engine) => {
  const chat = await start(t, engine, 'socketio.mjs');
  const alice = await join(t, chat.address, 'alice', { transports: ['websocket'], reconnection: false });
  const [[reason]] = await Promise.all([once(alice, 'disconnect'), stop(chat)]);
  assert.ok(['io server disconnect', 'transport close'].includes(reason), reason);
});

onGuarded('Socket.IO: a foreign page is refused on both transports, and too large a message closes', async (t, engine) => {
  const { address } = await start(t, engine, 'socketio.mjs');
  // Here the `allowRequest` of the example answers; engine.io's own answer to an upgrade is 400.
  assert.equal(await refused(`ws://${address}/socket.io/?EIO=4&transport=websocket`, { origin: 'http://evil.test' }), 400);
  const polling = (headers) => fetch(`http://${address}/socket.io/?EIO=4&transport=polling`, { headers });
  assert.equal((await polling({ origin: 'http://evil.test' })).status, 403);
  assert.equal((await polling({})).status, 200);
  const alice = await join(t, address, 'alice', { transports: ['websocket'], reconnection: false });
  const ended = once(alice, 'disconnect');
  alice.emit('draw', 'lobby', Buffer.alloc(65_537));
  const [reason, details] = await ended;
  assert.equal(reason, 'transport close');
  assert.equal(details.context.code, 1009);
});

onGuarded('Socket.IO: without allowRequest, the policy refuses a foreign page and a page without a token', async (t, engine) => {
  const server = createServer();
  const { guard } = engine.load();
  const auth = { tokens: [{ token: 'change-me', user: 'alice' }] };
  const io = new Server(server, { wsEngine: guard({ origins: [ORIGIN], auth, tokenSources: ['cookie:ticket'] }), transports: ['websocket'] });
  io.on('connection', () => assert.equal(io.engine.clientsCount, 1));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => io.close());
  const address = `127.0.0.1:${server.address().port}`;
  const url = `ws://${address}/socket.io/?EIO=4&transport=websocket`;
  const cookie = 'ticket=change-me';
  assert.equal(await refused(url, { origin: 'http://evil.test', headers: { cookie } }), 403);
  assert.equal(await refused(url), 401);
  assert.equal(io.engine.clientsCount, 0);
  const alice = await join(t, address, 'alice', { transports: ['websocket'], extraHeaders: { origin: ORIGIN, cookie } });
  assert.ok(alice.connected);
});

onEach('Socket.IO, two servers and one of ws on one HTTP server: none ends the sockets of the others', async (t, engine) => {
  const server = createServer();
  const { WebSocketServer, guard } = engine.load();
  const policy = { origins: [ORIGIN], auth: 'none' };
  // After so long each ends the sockets of other paths that nobody has answered.
  const attached = ['/one', '/two'].map((path) => new Server(server, { path, wsEngine: guard(policy), destroyUpgradeTimeout: 100 }));
  const echo = new WebSocketServer({ noServer: true, policy });
  echo.on('connection', (ws) => ws.on('message', (data) => ws.send(String(data))));
  server.on('upgrade', (request, socket, head) => {
    if (request.url === '/ws') echo.handleUpgrade(request, socket, head, (ws) => echo.emit('connection', ws, request));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const ws of echo.clients) ws.terminate();
    echo.close();
    for (const io of attached) io.close();
  });
  const address = `127.0.0.1:${server.address().port}`;
  for (const io of attached) io.on('connection', (socket) => socket.on('ask', (value, answer) => answer(value)));
  const options = { transports: ['websocket'], reconnection: false };
  const sockets = await Promise.all(['/one', '/two'].map((path) => join(t, address, 'alice', { ...options, path })));
  const client = new WebSocket(`ws://${address}/ws`, { origin: ORIGIN });
  t.after(() => client.terminate());
  await once(client, 'open');
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (const socket of sockets) assert.equal(await socket.timeout(5000).emitWithAck('ask', 7), 7);
  client.send('still there');
  assert.equal(String((await once(client, 'message'))[0]), 'still there');
});

// `wsguard/ws`, the policy: where it is stated, and what the options of `ws` make tighter.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import native from '../lib/native.js';
import { WebSocketServer } from '../ws/index.mjs';
import { freePort, refusing } from './own-redis.mjs';
import { KEY, POLICY, WebSocketClient, ended, knock, pair, serve, share } from './ws-harness.mjs';

const addon = native.load();

/** A policy in a file that the environment names. */
function inFile(t, text) {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'wsguard-ws-'));
  const file = path.join(directory, 'policy.json');
  writeFileSync(file, text);
  const before = process.env.WSGUARD_POLICY;
  process.env.WSGUARD_POLICY = file;
  t.after(() => {
    rmSync(directory, { recursive: true });
    if (before === undefined) delete process.env.WSGUARD_POLICY;
    else process.env.WSGUARD_POLICY = before;
  });
  return file;
}

test('a file, in either spelling', async (t) => {
  for (const names of [{ missing_origin: 'allow', max_message_bytes: 8 }, { missingOrigin: 'allow', maxMessageBytes: 8 }]) {
    inFile(t, JSON.stringify({ origins: ['https://a.example'], auth: 'none', ...names }));
    const wss = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    t.after(() => ended(wss));
    await once(wss, 'listening');
    assert.equal((await knock(wss.address().port, { ...KEY, Origin: 'https://b.example' })).status, 403);
    const { client } = await pair(t, wss);
    client.send('nine bytes');
    assert.equal((await once(client, 'close'))[0], 1009);
  }
});

test('a policy that a copy would lose a part of is refused, as by Server', () => {
  const auth = { tokens: [{ token: 's'.repeat(32), user: 'alice' }] };
  const own = new (class {
    get auth() {
      return auth;
    }
  })();
  for (const [policy, option] of [
    [{ ...POLICY, routes: new Map([['/', {}], ['/admin', { auth }]]) }, 'routes'],
    [{ ...POLICY, routes: { '/admin': own } }, 'routes./admin'],
    [{ ...POLICY, routes: { '/admin': Object.create({ auth }) } }, 'routes./admin'],
    [{ ...POLICY, compression: new Map() }, 'compression'],
    [Object.assign(Object.create({ routes: { '/admin': { auth } } }), POLICY), 'options'],
    [new Map(Object.entries(POLICY)), 'options'],
  ]) {
    for (const more of [{}, { perMessageDeflate: true, maxPayload: 10 }, { verifyClient: () => true }]) {
      assert.throws(() => new WebSocketServer({ noServer: true, ...more, policy }), { code: 'invalid_option', option });
    }
  }
});

test('a file that is none', (t) => {
  const file = inFile(t, '{');
  assert.throws(() => new WebSocketServer({ noServer: true }), /^Error: WSGUARD_POLICY: the file is no JSON: /);
  process.env.WSGUARD_POLICY = `${file}.missing`;
  assert.throws(() => new WebSocketServer({ noServer: true }), /^Error: WSGUARD_POLICY: the file cannot be read: /);
});

test('the option counts, not the file', async (t) => {
  inFile(t, '{');
  await serve(t);
});

test('maxPayload and maxFragments only make the policy tighter', async (t) => {
  const closed = async (options, policy, send) => {
    const wss = await serve(t, options, policy);
    const { client, ws } = await pair(t, wss);
    ws.on('message', (data) => ws.close(4000, String(data.length)));
    ws.on('error', () => {});
    send(client);
    return (await once(client, 'close'))[0];
  };
  const bytes = (count) => (client) => client.send(Buffer.alloc(count));
  assert.equal(await closed({ maxPayload: 10 }, {}, bytes(11)), 1009);
  assert.equal(await closed({ maxPayload: 10 }, {}, bytes(10)), 4000);
  assert.equal(await closed({ maxPayload: 1000 }, { maxMessageBytes: 10 }, bytes(11)), 1009);
  assert.equal(await closed({ maxPayload: 0 }, { maxMessageBytes: 10 }, bytes(11)), 1009);
  const fragments = (client) => {
    client.send('a', { fin: false });
    client.send('b', { fin: false });
    client.send('c');
  };
  assert.equal(await closed({ maxFragments: 2 }, {}, fragments), 1008);
  assert.equal(await closed({ maxFragments: 3 }, {}, fragments), 4000);
});

test('closeTimeout ends who does not answer a close', async (t) => {
  const wss = await serve(t, { closeTimeout: 100 });
  const { client, ws } = await pair(t, wss);
  client.pause();
  const closed = once(ws, 'close');
  ws.close(1000);
  assert.equal((await closed)[0], 1006);
});

test('protocol is what the 101 says, also where the policy has chosen it', async (t) => {
  const token = { auth: { tokens: [{ token: 'change-me', user: 'alice' }] }, tokenSources: ['subprotocol'] };
  const cases = [
    [{ subprotocols: ['chat'] }, ['other', 'chat'], 'chat'],
    [token, ['bearer', 'change-me'], 'bearer'],
    [{ ...token, subprotocols: ['chat'] }, ['bearer', 'change-me', 'chat'], 'chat'],
  ];
  for (const [policy, protocols, chosen] of cases) {
    const { client, ws } = await pair(t, await serve(t, {}, policy), { protocols });
    assert.deepEqual([client.protocol, ws.protocol], [chosen, chosen]);
  }
});

test('a route has a subprotocol of its own', async (t) => {
  const routes = {
    '/v2': { subprotocols: ['v2'] },
    '/token': { auth: { tokens: [{ token: 'change-me', user: 'alice' }] }, token_sources: ['subprotocol'] },
    '/room/{name}': { tokenSources: ['bearer'] },
  };
  for (const how of [serve(t, {}, { routes }), share(t, {}, { policy: { routes } }).then(({ wss }) => wss)]) {
    const wss = await how;
    for (const [path, protocols, chosen] of [
      ['/v2', ['v1', 'v2'], 'v2'],
      ['/token', ['chat', 'bearer', 'change-me'], 'bearer'],
      ['/room/1', ['v1', 'v2'], 'v1'],
    ]) {
      const { client, ws } = await pair(t, wss, { path, protocols });
      assert.deepEqual([client.protocol, ws.protocol], [chosen, chosen], path);
    }
  }
});

test('what a start reaches for outside is an error of the constructor, and there before the first peer', async (t) => {
  const refuses = `127.0.0.1:${await refusing(t)}`;
  const keys = { jwt: { algorithms: ['ES256'], jwksUrl: `http://127.0.0.1:${await freePort()}/jwks.json`, issuer: 'i', audience: 'a' } };
  const { jwksUrl, ...rest } = keys.jwt;
  for (const [policy, wanted] of [
    [{ cluster: { url: `redis://me:s3cret@${refuses}` } }, /^Error: cluster\.url: cannot be used: /],
    [{ auth: keys }, /^Error: auth\.jwt\.jwksUrl: /],
    [{ routes: { '/a': { auth: { jwt: { ...rest, jwks_url: jwksUrl } } } } }, /jwks_?[uU]rl: /],
  ]) {
    for (const how of [{ noServer: true }, { server: http.createServer() }]) {
      assert.throws(() => new WebSocketServer({ ...how, policy: { ...POLICY, ...policy } }), wanted);
    }
  }
  const admin = await freePort();
  await share(t, {}, { policy: { adminListen: `127.0.0.1:${admin}` } });
  assert.equal((await fetch(`http://127.0.0.1:${admin}/readyz`)).status, 200);
});

test('a start that fails at an upgrade costs the peer its socket, and is tried again half a minute later', async (t) => {
  const { start } = addon.NativeServer.prototype;
  const { error } = console;
  let [tries, printed] = [0, 0];
  t.after(() => {
    addon.NativeServer.prototype.start = start;
    console.error = error;
  });
  addon.NativeServer.prototype.start = () => {
    tries += 1;
    throw new Error('too many open files');
  };
  console.error = () => (printed += 1);
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  t.after(() => listeners.forEach((listener) => process.on('uncaughtException', listener)));
  const { wss, server } = await share(t);
  for (let peer = 0; peer < 3; peer += 1) assert.equal((await knock(server.address().port, KEY)).status, 503);
  assert.equal(tries, 1);
  assert.ok(printed >= 1);
  addon.NativeServer.prototype.start = start;
  assert.equal((await knock(server.address().port, KEY)).status, 503);
  const now = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => now() + 30_000);
  await pair(t, wss);
});

test('auth: "callback" is answered by verifyClient, or by authenticate', async (t) => {
  const { accept, reject } = await import('../index.mjs');
  assert.throws(() => new WebSocketServer({ noServer: true, policy: { ...POLICY, auth: 'callback' } }), /authenticate/);
  const verified = await serve(t, { verifyClient: ({ req }) => req.url === '/in' }, { auth: 'callback' });
  assert.equal((await knock(verified.address().port, KEY, { path: '/out' })).status, 401);
  await pair(t, verified, { path: '/in' });
  const routes = { '/in': { auth: 'callback' }, '/out': { auth: 'callback' } };
  const onRoutes = await serve(t, { verifyClient: ({ req }) => req.url === '/in' }, { routes });
  assert.equal((await knock(onRoutes.address().port, KEY, { path: '/out' })).status, 401);
  assert.equal((await pair(t, onRoutes, { path: '/in' })).ws.wsguard.route, '/in');
  const authenticate = (request) => (request.token === 'secret' ? accept({ user: 'alice', headers: { 'X-From': 'policy' } }) : reject(403));
  const known = await serve(t, {}, { auth: undefined, authenticate });
  assert.equal((await knock(known.address().port, KEY)).status, 403);
  const { ws } = await pair(t, known, { headers: { authorization: 'Bearer secret' } });
  assert.equal(ws.wsguard.user, 'alice');
});

test('hooks that fail refuse the handshake, and no process', async (t) => {
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const { error } = console;
  const printed = [];
  console.error = (...what) => printed.push(what.at(-1).message);
  t.after(() => {
    console.error = error;
    for (const listener of listeners) process.on('uncaughtException', listener);
  });
  const fail = () => {
    throw new Error('a hook failed');
  };
  for (const options of [{ verifyClient: fail }, { verifyClient: (info, callback) => setImmediate(callback, true), handleProtocols: fail }]) {
    const wss = await serve(t, options);
    assert.equal((await knock(wss.address().port, { ...KEY, 'Sec-WebSocket-Protocol': 'a' })).status, 503);
  }
  const wss = await serve(t);
  wss.on('headers', (lines) => lines.push('no header'));
  assert.equal((await knock(wss.address().port, KEY)).status, 503);
  assert.equal(printed.length, 3);
});

test('TLS is the application\'s, or the policy\'s', async (t) => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'wsguard-ws-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(directory, name));
  try {
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' });
  } catch {
    return t.skip('openssl makes no certificate here');
  }
  const infos = [];
  const verifyClient = (info) => infos.push(info) > 0;
  const echo = async (url, wss) => {
    wss.on('connection', (ws) => ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })));
    const client = new WebSocketClient(url, { rejectUnauthorized: false, perMessageDeflate: false, origin: 'https://example.com', headers: { foo: 'bar' } });
    await once(client, 'open');
    for (const data of [Buffer.from('hello'), Buffer.alloc(60_000, 1)]) {
      const answered = once(client, 'message');
      client.send(data);
      assert.ok((await answered)[0].equals(data));
    }
    const closed = once(client, 'close');
    client.close(1000);
    assert.equal((await closed)[0], 1000);
    const { origin, secure, req } = infos.pop();
    assert.deepEqual([origin, secure, req.headers.foo, req.socket.encrypted], ['https://example.com', true, 'bar', true]);
  };
  const credentials = { key: readFileSync(key), cert: readFileSync(cert) };
  for (const makeServer of [() => https.createServer(credentials), () => http2.createSecureServer({ ...credentials, allowHTTP1: true })]) {
    const { wss, server } = await share(t, { verifyClient }, { makeServer });
    await echo(`wss://127.0.0.1:${server.address().port}`, wss);
  }
  const ours = await serve(t, { verifyClient }, { tls: { cert, key } });
  await echo(`wss://127.0.0.1:${ours.address().port}`, ours);
  assert.throws(() => new WebSocketServer({ noServer: true, policy: { ...POLICY, tls: { cert, key } } }), /^Error: tls: belongs to the HTTP server/);
});

// Hostile arguments against every method, seeded, while other connections check that each byte they get is their own.
// WSGUARD_FUZZ_SEED repeats a run, WSGUARD_FUZZ_ROUNDS makes it longer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accept, acceptAnonymous, reject } from '../index.mjs';
import { Client, start } from './harness.mjs';
import { dice } from './random.mjs';

const seed = Number(process.env.WSGUARD_FUZZ_SEED ?? Date.now() % 2 ** 32);
const rounds = Number(process.env.WSGUARD_FUZZ_ROUNDS ?? 100);

const move = (buffer) => structuredClone(buffer, { transfer: [buffer] });

/** Values that do harm. `server` and `conns` are there for those that call back into the API in the middle of it. */
function hostile({ below, pick }, server, conns) {
  const size = pick([0, 1, 7, 100, 8191, 8192, 65_535, 65_536, 65_537, 300_000, 2_000_000]);
  const again = () => {
    const text = `mine:${'h'.repeat(below(50))}`;
    const conn = pick(conns);
    try {
      conn?.send(text);
    } catch {
      conn.emit(text, text);
    }
  };
  return pick([
    () => undefined, () => null, () => true, () => NaN, () => -0, () => Infinity, () => 2 ** 60, () => 5n, () => Symbol('x'),
    () => '', () => '\ud800', () => 'x\udc00\ud800', () => '\u0000', () => '__proto__', () => 'mine:€😀', () => 'm'.repeat(size),
    () => 'room', () => 'hostile', () => ({}), () => [], () => [1, [2]], () => () => 5, () => class {}, () => new Date(NaN),
    () => new Map([[1, 2]]), () => new WeakSet(), () => Promise.resolve(1), () => new Proxy({}, {}), () => new Proxy(Buffer.alloc(9), {}),
    () => {
      const { proxy, revoke } = Proxy.revocable({}, {});
      revoke();
      return proxy;
    },
    () => new Proxy({}, { get() { throw new Error('trap'); }, has() { throw new Error('trap'); }, ownKeys() { throw new Error('trap'); } }),
    () => {
      const data = { a: [] };
      data.a.push(data);
      return data;
    },
    () => ({ get data() { throw new Error('getter'); } }),
    () => ({ toJSON() { again(); return 'j'; } }),
    () => ({ toJSON() { throw Symbol('x'); } }),
    () => ({ get id() { again(); return pick([7, 'x', {}, Symbol('x'), () => {}, 1.5]); } }),
    () => ({ toString() { throw new Error('text'); }, [Symbol.toPrimitive]() { throw new Error('primitive'); } }),
    () => JSON.parse(`${'['.repeat(200)}${']'.repeat(200)}`),
    () => Buffer.alloc(size, 'm'), () => new Uint8Array(new ArrayBuffer(size)), () => new ArrayBuffer(size), () => new Float64Array(below(9)),
    () => new DataView(new ArrayBuffer(size)), () => new Uint8Array(new SharedArrayBuffer(size)), () => new SharedArrayBuffer(size),
    () => Object.create(Uint8Array.prototype), () => Object.create(Buffer.prototype),
    () => Object.defineProperties(Buffer.alloc(5, 'm'), { length: { value: size }, byteLength: { value: size }, buffer: { get: again } }),
    () => new (class extends Uint8Array {
      get length() { return 1e6; }
      get byteLength() { return 1e6; }
      static get [Symbol.species]() { return Array; }
    })(below(20)),
    () => {
      const bytes = new Uint8Array(new ArrayBuffer(size));
      move(bytes.buffer);
      return pick([bytes, bytes.buffer]);
    },
    () => {
      const view = new DataView(new ArrayBuffer(8));
      move(view.buffer);
      return view;
    },
    () => {
      const buffer = new ArrayBuffer(100, { maxByteLength: 200 });
      const view = pick([() => new Uint8Array(buffer), () => new Uint8Array(buffer, 50, 50), () => new DataView(buffer, 90)])();
      buffer.resize?.(pick([0, 10, 95, 200]));
      return view;
    },
    () => pick(conns), () => server, () => pick(conns)?.id, () => Object.create(pick(conns) ?? null),
  ])();
}

/** One call with hostile arguments; what it throws must be an error, and its own. */
function call(random, server, conns, foreign) {
  const evil = () => hostile(random, server, [...conns, foreign]);
  const conn = random.pick(conns);
  const target = random.pick([() => conn, () => server.toAll().except(...honest(server)), () => server.to('hostile')])();
  const act = random.pick([
    () => target.send(evil()),
    () => target.send(evil()),
    () => target.emit(evil(), evil()),
    () => target.emit('x', evil()),
    () => conn.reply(evil(), evil(), evil()),
    () => conn.reply({ id: evil() }, 'x', evil()),
    () => conn.reply(evil(), 'x', 1),
    () => conn.join(evil()), () => conn.leave(evil()), () => conn.join('hostile'),
    () => conn.close(evil(), evil()),
    () => (random.below(20) === 0 ? conn.close() : undefined),
    () => conn.pause(), () => conn.resume(), () => void conn.drained(),
    () => server.to(evil()), () => server.toAll().except(evil()), () => server.toAll().except(...[evil()], evil()),
    () => foreign.send(evil()), () => foreign.emit(evil(), evil()), () => server.toAll().except(foreign),
    () => server.disconnectUser(evil()), () => server.on(evil(), () => {}).off('open', () => {}), () => server.off(evil(), evil()),
    () => server.emit(evil(), evil()), () => server.onEvent(evil(), evil()), () => server.offEvent(evil(), evil()),
    () => void server.drain({ timeoutMs: random.pick([-1, '5', null, NaN, {}, Symbol('x')]) }).catch(() => {}),
    () => void server.listen(evil()).catch(() => {}), () => server.attach(evil(), evil()), () => server.handleUpgrade(evil(), evil(), evil()),
    () => accept(evil()), () => accept({ user: evil(), data: evil(), expiresAtMs: evil() }), () => acceptAnonymous(evil()), () => reject(evil()),
    () => void [...server.connections], () => server.stats(), () => server.reloadTls(), () => JSON.stringify(conn),
  ]);
  try {
    act();
  } catch {
    // Whatever it is, it is the caller's.
  }
}

const honest = (server) => [...server.connections].filter((conn) => conn.path === '/honest');

for (const isRaw of [true, false]) {
  test(`hostile arguments (${isRaw ? 'raw' : 'json'}, seed ${seed})`, { timeout: 120_000 }, (t) => withstands(t, isRaw));
}

async function withstands(t, isRaw) {
  const random = dice(seed);
  const protocol = isRaw ? { protocol: 'raw' } : { events: { go: {} } };
  const server = await start(t, { ...protocol, maxConnectionsPerIp: 1000, threads: 2, maxOutboxBytes: 1 << 22 });
  const other = await start(t, protocol);
  const say = (conn, data) => (isRaw ? conn.send(data) : conn.emit('said', data));
  server.on('error', () => {});
  server.on('close', () => {});
  // It only sends what is hostile's own: nobody honest may ever see it.
  let doing = 0;
  server.on(isRaw ? 'message' : 'go', (conn, data) => {
    if (conn.path === '/honest') return void say(conn, data);
    const conns = [...server.connections].filter((one) => one.path !== '/honest');
    for (let count = 0; count < 8 && conns.length > 0; count += 1) {
      call(random, server, conns, foreign);
      // In the same tick as the hostile call.
      for (const one of honest(server)) say(one, `for ${one.id}`);
      doing += 1;
    }
    // Or nobody would be left to do harm.
    for (const one of conns) one.resume();
    if (random.below(4) === 0) throw random.pick([new Error('handler'), undefined, Symbol('x'), Object.create(null)]);
  });
  const opened = new Promise((resolve) => other.on('open', resolve));
  await Client.connect(other.address);
  const foreign = await opened;
  const quiet = t.mock.method(console, 'error', () => {});

  const clients = [];
  for (let at = 0; at < 3; at += 1) clients.push(await Client.connect(server.address, { path: '/honest' }));
  while (honest(server).length < clients.length) await new Promise(setImmediate);
  const ids = honest(server).map((conn) => conn.id);
  const wrong = [];
  const heard = clients.map((client, at) => {
    const seen = { echoes: 0, told: new Set() };
    client.socket.on('message', (data, isBinary) => {
      const text = isRaw ? String(data) : String(JSON.parse(data).data);
      if (isBinary === isRaw && text === `echo of ${at} ${seen.echoes}`) seen.echoes += 1;
      else if (!isBinary && ids.includes(text.slice(4)) && text.startsWith('for ')) seen.told.add(text);
      else wrong.push(`client ${at}: ${String(data).slice(0, 60)}`);
    });
    return seen;
  });
  let bad = [];
  for (let round = 0; round < rounds; round += 1) {
    bad = bad.filter((client) => client.socket.readyState === 1);
    while (bad.length < 3) bad.push(await Client.connect(server.address, { path: '/hostile' }));
    for (const client of bad) isRaw ? client.send('go') : client.emit('go');
    for (const [at, client] of clients.entries()) {
      const text = `echo of ${at} ${round}`;
      if (isRaw) client.send(Buffer.from(text));
      else client.emit('go', text);
    }
    const end = performance.now() + 20_000;
    while (heard.some((seen) => seen.echoes <= round) && wrong.length === 0) {
      assert.ok(performance.now() < end, 'a message of somebody honest was lost');
      await new Promise(setImmediate);
    }
    assert.deepEqual(wrong, []);
  }
  assert.ok(doing >= rounds * 8, `${doing} hostile calls`);
  for (const seen of heard) assert.deepEqual([seen.echoes, seen.told.size], [rounds, 1], 'each is told what is its own');
  quiet.mock.restore();
}

// The node column of tests/faces.toml, which says what a concept is called in each language: checked by running it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { Server, accept } from '../index.mjs';
import { freePort, refusing } from './own-redis.mjs';
import { Client, ORIGIN, handshake, policy, run, start } from './harness.mjs';

const faces = readFaces(readFileSync(new URL('../../tests/faces.toml', import.meta.url), 'utf8'));
const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

/** The part of TOML that the file has: tables of strings, numbers and lists of strings, which JSON spells alike. */
function readFaces(text) {
  const tables = {};
  let table;
  for (const [, name, key, value] of text.matchAll(/^(?:\[(\w+)\]|(\w+) = (\[[^\]]*\]|.*))$/gm)) {
    if (name === undefined) table[key] = JSON.parse(value.replace(/,\s*\]/, ']'));
    else tables[name] = table = {};
  }
  return tables;
}

const own = { events: { say: {} } };

/** What each row says of Node is what this finds. */
const CHECKS = {
  async everywhere_timeout_ms(t) {
    const server = await start(t);
    const asked = [];
    const { load } = await import('../lib/native.js').then((module) => module.default);
    const { NativeServer } = load();
    const { countEverywhere } = NativeServer.prototype;
    t.after(() => (NativeServer.prototype.countEverywhere = countEverywhere));
    NativeServer.prototype.countEverywhere = function (...given) {
      asked.push(given.at(-1));
      return countEverywhere.apply(this, given);
    };
    await server.toAll().everywhere();
    return asked[0];
  },

  async cluster_outage_verdict(t) {
    const server = await start(t, { cluster: { url: `redis://127.0.0.1:${await freePort()}`, onOutage: 'closed' } });
    await Client.refused(server.address);
    return Object.entries(server.stats().verdicts).find(([, count]) => count > 0)[0];
  },

  async cluster_refused(t) {
    const server = new Server(policy({ cluster: { url: `redis://:wrong@127.0.0.1:${await refusing(t)}` } }));
    const refused = await server.listen().catch((error) => error);
    assert.equal(refused.option, 'cluster.url');
    return refused.code;
  },

  async send_to_closed(t) {
    const server = await start(t, own);
    const opened = once(server, 'open');
    await Client.connect(server.address);
    const [conn] = await opened;
    conn.close();
    const answers = new Set([conn.emit('say'), conn.reply({ id: 1 }, 'say'), conn.reply(undefined, 'say')]);
    assert.equal(answers.size, 1);
    return [...answers][0];
  },

  async send_waits(t) {
    const server = await start(t, { protocol: 'raw' });
    const opened = once(server, 'open');
    const client = await Client.connect(server.address);
    const [conn] = await opened;
    client.socket.pause();
    const chunk = Buffer.alloc(64 * 1024);
    for (let sent = 0; sent < 1000; sent += 1) {
      const answer = conn.send(chunk);
      if (answer !== 'sent') return answer;
      await new Promise(setImmediate);
    }
    return 'sent';
  },

  drain_timeout_ms: async (t) => (await defaultsOfDrain(t))[0],
  drain_jitter_ms: async (t) => (await defaultsOfDrain(t))[1],

  async second_start(t) {
    const server = await start(t);
    return (await server.listen().catch((error) => error)).code;
  },

  /** Verdicts are on standard error only behind `logToStderr`. */
  async log_default() {
    const { err } = await run('refuses-one.mjs');
    const { err: logged } = await run('refuses-one.mjs', { args: ['log'] });
    assert.match(logged, /origin_denied/);
    return err === '' ? 'nowhere' : err;
  },

  async callback_without_auth(t) {
    const { auth: _, ...options } = policy({ authenticate: () => accept({ user: 'alice' }) });
    const server = new Server(options);
    t.after(() => server.stop());
    const opened = once(server, 'open');
    await Client.connect(await server.listen());
    assert.equal((await opened)[0].user, 'alice');
    return 'callback';
  },

  async message_size(t) {
    const server = await start(t, own);
    const heard = once(server, 'say');
    const client = await Client.connect(server.address);
    client.send('{"event":"say"}');
    const [, , meta] = await heard;
    return Object.keys(meta).find((name) => meta[name] === '{"event":"say"}'.length);
  },

  async verdict_counters(t) {
    const server = await start(t);
    const { verdicts } = server.stats();
    const text = readFileSync(new URL('../types/generated.d.ts', import.meta.url), 'utf8');
    assert.deepEqual(Object.keys(verdicts), [...text.matchAll(/^ {2}\| "(\w+)"$/gm)].map(([, code]) => code));
    return 'all';
  },

  async query_absent(t) {
    const asked = [];
    const authenticate = (request) => {
      asked.push(request);
      return accept({ user: 'alice' });
    };
    const server = await start(t, { auth: 'callback', authenticate });
    for (const path of ['/', '/?a']) await Client.connect(server.address, { path });
    // What `ws` would not send.
    const { hostname, port } = new URL(`ws://${server.address}`);
    const plain = connect(Number(port), hostname);
    t.after(() => plain.destroy());
    plain.write(handshake('', '/?'));
    await once(plain, 'data');
    assert.deepEqual(asked.slice(1).map(({ query, url }) => [query, url]), [['a', '/?a'], ['', '/?']]);
    assert.equal(asked[0].url, '/');
    return String(asked[0].query);
  },

  async close_reason_absent(t) {
    const server = await start(t);
    const closed = once(server, 'close');
    const client = await Client.connect(server.address);
    await client.close(1000);
    return (await closed)[2].reason;
  },

  async leave_plain(t) {
    const server = await start(t, { protocol: 'raw', compression: { thresholdBytes: 0 } });
    const opened = once(server, 'open');
    const client = await Client.connect(server.address, { perMessageDeflate: true });
    const [conn] = await opened;
    const text = 'a'.repeat(5000);
    const found = [];
    for (const compress of [true, false]) {
      const before = client.socket._socket.bytesRead;
      conn.send(text, { compress });
      assert.equal(await client.message(), text);
      if (client.socket._socket.bytesRead - before > text.length) found.push(`compress: ${compress}`);
    }
    return found.join();
  },
};

async function defaultsOfDrain(t) {
  const calls = [];
  const { load } = await import('../lib/native.js').then((module) => module.default);
  const { prototype } = load().NativeServer;
  const { drain } = prototype;
  t.after(() => (prototype.drain = drain));
  prototype.drain = function watched(...given) {
    calls.push(given);
    return drain.apply(this, given);
  };
  const server = await start(t);
  await server.drain();
  return calls[0];
}

for (const [concept, row] of Object.entries(faces)) {
  if (!('node' in row)) continue;
  test(`${concept}: ${row.meaning}`, async (t) => {
    assert.ok(concept in CHECKS, `tests/faces.toml says ${JSON.stringify(row.node)} of Node, and nothing checks it`);
    assert.deepEqual(await CHECKS[concept](t), row.node);
  });
}

test('every check has its row', () => {
  for (const concept of Object.keys(CHECKS)) assert.ok('node' in (faces[concept] ?? {}), concept);
});

test(`violation_record: ${faces.violation_record.meaning}`, async (t) => {
  const server = await start(t, { ...own, origins: [ORIGIN] });
  const violations = [];
  server.on('violation', (violation) => violations.push(violation));
  const { hostname, port } = new URL(`ws://${server.address}`);
  const refused = connect(Number(port), hostname);
  refused.end(handshake().replace(ORIGIN, 'https://evil.example'));
  refused.resume();
  await once(refused, 'close');
  const client = await Client.connect(server.address);
  client.emit('none');
  await client.closed;
  while (violations.length < 2) await once(server, 'violation');
  for (const { conn, ...record } of violations) {
    assert.deepEqual(Object.keys(record), faces.violation_record.fields.map(camel));
    assert.equal(record.connId, conn?.id ?? null);
  }
  const numbers = violations.map(({ code, closeCode, httpStatus }) => [code, closeCode, httpStatus]);
  assert.deepEqual(numbers, [['origin_denied', null, 403], ['unknown_event', 1008, null]]);
});

test(`stats: ${faces.stats.meaning}`, async (t) => {
  const server = await start(t);
  const { verdicts, ...counters } = server.stats();
  assert.equal(typeof verdicts, 'object');
  assert.deepEqual(Object.keys(counters), faces.stats.fields.map(camel));
  assert.ok(Object.values(counters).every(Number.isInteger));
});

test(`everywhere: ${faces.everywhere.meaning}`, async (t) => {
  const server = await start(t);
  assert.deepEqual(Object.keys(await server.toAll().everywhere()), faces.everywhere.fields);
});

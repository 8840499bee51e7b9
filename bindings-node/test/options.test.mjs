// Options and errors: names, codes, what JSON cannot hold.

import assert from 'node:assert/strict';
import http from 'node:http';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Server } from '../index.mjs';
import { policy } from './harness.mjs';

const { load } = createRequire(import.meta.url)('../lib/native.js');

for (const [name, more, code, option, message] of [
  ['an unknown option', { colour: 'blue' }, 'unknown_option', 'colour', /maxConnections/],
  ['the spelling of other languages', { max_connections: 5 }, 'unknown_option', 'max_connections', /`maxConnections`/],
  ['an unknown option inside', { rateLimit: { perMinute: 5 } }, 'unknown_option', 'rateLimit.perMinute', /perSecond/],
  ['a name that no option has', { rateLimit: { '§': 5 } }, 'unknown_option', 'rateLimit', /^rateLimit: .*perSecond/],
  ['the spelling of other languages inside', { rateLimit: { per_second: 5 } }, 'unknown_option', 'rateLimit.per_second', /`perSecond`/],
  ['the same inside of an event', { events: { maxDepth: { Cost: 5 } } }, 'unknown_option', 'events.maxDepth.Cost', /`cost`/],
  ['a schema that is undefined', { events: { say: { schema: {}.sya } } }, 'invalid_option', 'events.say.schema', /got undefined/],
  ['a schema that is null', { events: { say: { schema: null } } }, 'invalid_option', 'events.say.schema', /leave it out/],
  ['an event that is undefined', { events: { say: {}.sya } }, 'invalid_option', 'events.say', /got undefined/],
  ['an event that is null', { events: { say: null } }, 'invalid_option', 'events.say', /got null/],
  ['an audience that is undefined', { auth: { jwt: { algorithms: ['HS256'], key: 'x'.repeat(32), audience: undefined } } }, 'invalid_option', 'auth.jwt.audience', /undefined/],
  ['an authority that is undefined', { tls: { cert: 'x', key: 'x', clientCa: undefined } }, 'invalid_option', 'tls.clientCa', /undefined/],
  ['a user that is undefined', { auth: { tokens: [{ token: 'x', user: undefined }] } }, 'invalid_option', 'auth.tokens[0].user', /undefined/],
  ['a wrong type inside', { rateLimit: { perSecond: '5' } }, 'invalid_option', 'rateLimit.perSecond', /^rateLimit.perSecond: /],
  ['no origins', { origins: undefined }, 'missing_option', 'origins', /dangerouslyAllowAnyOrigin/],
  ['a contradiction', { dangerouslyAllowAnyOrigin: true }, 'contradiction', undefined, /origins/],
  ['a list item', { trustedProxies: ['10.0.0.0/33'] }, 'invalid_option', 'trustedProxies[0]', /./],
  ['an event of the application', { events: { max_connections: { price: 1 } } }, 'unknown_option', 'events.max_connections.price', /./],
  ['NaN', { rateLimit: { perSecond: NaN } }, 'invalid_option', 'rateLimit.perSecond', /finite number, got NaN/],
  ['NaN for a limit that null switches off', { rateLimit: NaN }, 'invalid_option', 'rateLimit', /finite/],
  ['a function', { hosts: () => {} }, 'invalid_option', 'hosts', /function/],
  ['a bigint', { maxConnections: 5n }, 'invalid_option', 'maxConnections', /bigint/],
  ['no function for the callback', { auth: 'callback' }, 'missing_option', 'authenticate', /./],
  ['a function without the callback', { authenticate: () => {} }, 'contradiction', 'authenticate', /./],
  ['a callback that is none', { auth: 'callback', authenticate: 5 }, 'invalid_option', 'authenticate', /./],
]) {
  test(`${name}: ${code}`, () => {
    assert.throws(() => new Server(policy(more)), (error) => {
      assert.equal(error.code, code);
      if (option !== undefined) assert.equal(error.option, option);
      assert.match(error.message, message);
      return error instanceof Error;
    });
  });
}

test('options must be an object', () => {
  for (const options of [undefined, null, [], 'x']) assert.throws(() => new Server(options), { code: 'invalid_option' });
});

test('an address that is taken rejects', async (t) => {
  const first = new Server(policy());
  t.after(() => first.stop());
  const address = await first.listen();
  const second = new Server(policy({ listen: address }));
  for (let round = 0; round < 2; round += 1) {
    await assert.rejects(second.listen(), { code: 'listen_failed', option: 'listen' });
  }
  // Once the address is free the same server may start.
  await first.stop();
  assert.equal(await second.listen(), address);
  await second.drain();
});

test('a server that has ended before it was started says so', async () => {
  const server = new Server(policy());
  await server.stop();
  const calls = [
    () => server.reload(policy()), () => server.ban({ user: 'x' }), () => server.unban({ user: 'x' }), () => server.bans(), () => server.stats(),
    () => server.metrics(), () => server.reloadTls(), () => server.attach(http.createServer()),
  ];
  for (const call of calls) assert.throws(call, { code: 'stopped', message: /has ended/ }, String(call));
  await assert.rejects(server.listen(), { code: 'stopped', message: /has ended/ });
});

test('reloadTls without tls is told in the words of Node', async (t) => {
  const server = new Server(policy());
  t.after(() => server.stop());
  await server.listen();
  assert.throws(() => server.reloadTls(), { code: 'invalid_argument', message: 'reloadTls needs the option tls' });
});

test('a server has one life', async () => {
  const server = new Server(policy());
  assert.throws(() => server.stats(), { code: 'not_started' });
  assert.throws(() => server.to('room'), { code: 'not_started' });
  await server.listen();
  await assert.rejects(server.listen(), { code: 'already_started' });
  await server.drain();
  await assert.rejects(server.listen(), { code: 'already_started' });
  assert.throws(() => server.attach(http.createServer()), { code: 'stopped' });
  // Nobody is there any more: what is said to them, and their end, are no errors.
  server.toAll().emit('x');
  server.disconnectUser('x');
  assert.equal(server.stats().open, 0);
});

test('a key or certificate may be a Buffer; what cannot be used names the option', () => {
  const tls = { cert: Buffer.from('no pem'), key: Buffer.from('no pem') };
  assert.throws(() => new Server(policy({ tls })) && assert.fail('not refused at once'), (error) => {
    // Policies are checked at once, certificates when the server starts.
    return error.code === 'ERR_ASSERTION' || error.option?.startsWith('tls');
  });
  return assert.rejects(new Server(policy({ tls })).listen(), (error) => /^tls\./.test(error.option) && error.code === 'invalid_option');
});

test('the typings have every option that the core knows, and no other', () => {
  const text = readFileSync(new URL('../types/generated.d.ts', import.meta.url), 'utf8');
  const [, policyPart] = text.split('// The options.');
  const typed = new Set([...policyPart.matchAll(/^ {2}(\w+)\??: /gm)].map(([, name]) => name));
  const known = load().optionNames().filter((name) => !['tokens', 'jwt', 'schema', 'cost', 'onMismatch'].includes(name));
  assert.deepEqual([...typed].sort(), known.sort());
});

test('the typings have every verdict', () => {
  const text = readFileSync(new URL('../types/generated.d.ts', import.meta.url), 'utf8');
  const typed = [...text.matchAll(/^ {2}\| "(\w+)"$/gm)].map(([, code]) => code);
  assert.deepEqual(typed, JSON.parse(load().verdicts()).map(({ code }) => code));
});

// wss with a certificate that this browser was told to accept, and one that it was not.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { selfSigned } from '../lib/certificate.js';
import { launch, visit } from '../lib/chromium.js';
import { Host, TOKEN, policy, tokens } from '../lib/host.js';
import { VISIT, connect, echo, serve } from '../lib/page.js';

const [known, unknown] = [await selfSigned(), await selfSigned()];
const browser = await launch([`--ignore-certificate-errors-spki-list=${known.hash}`]);
after(() => browser.close());

const pair = ({ cert, key }) => ({ cert, key });

test('a page of https talks over wss', async (t) => {
  const site = await serve(t, { tls: pair(known) });
  const host = await Host.start(t, policy([site.origin('localhost')], { tls: pair(known) }));
  const page = await visit(t, browser, site.origin('localhost'));
  const send = Array.from({ length: 50 }, (_, number) => echo(number));
  const seen = await connect(page, host.url('/', 'localhost', 'wss'), { send, answers: 50, close: [1000] });
  assert.equal(seen.code, 1000);
  assert.deepEqual(seen.messages.map(({ data }) => data), send.map(({ data }) => data));
});

test('close codes come through TLS', async (t) => {
  const site = await serve(t, { tls: pair(known) });
  const host = await Host.start(t, policy([site.origin()], { tls: pair(known), max_message_bytes: 1000 }));
  const page = await visit(t, browser, site.origin());
  const seen = await connect(page, host.url('/', '127.0.0.1', 'wss'), { send: [echo('x'.repeat(5000))] });
  assert.deepEqual([seen.opened, seen.code, seen.reason, seen.wasClean], [true, 1009, 'message too big', true]);
});

test('http and https of the same host are different origins', async (t) => {
  const [plain, secure] = [await serve(t), await serve(t, { tls: pair(known) })];
  const host = await Host.start(t, policy([secure.origin()], { tls: pair(known) }));
  const seen = await connect(await visit(t, browser, plain.origin()), host.url('/', '127.0.0.1', 'wss'), VISIT);
  assert.deepEqual([seen.opened, seen.code], [false, 1006]);
  await host.violation('origin_denied');
});

test('a secure cookie signs the visitor in over wss', async (t) => {
  const headers = { 'Set-Cookie': `__Host-session=${TOKEN}; Secure; HttpOnly; SameSite=Strict; Path=/` };
  const site = await serve(t, { headers, tls: pair(known) });
  const options = { ...tokens, token_sources: ['cookie:__Host-session'], tls: pair(known) };
  const host = await Host.start(t, policy([site.origin()], options));
  const page = await visit(t, browser, site.origin());
  assert.equal((await connect(page, host.url('/', '127.0.0.1', 'wss'), VISIT)).code, 1000);
  assert.equal((await host.event((event) => event.type === 'open')).user, 'alice');
});

test('a certificate that the browser does not know: no connection, and the host lives', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()], { tls: pair(unknown) }));
  const page = await visit(t, browser, site.origin());
  assert.equal((await connect(page, host.url('/', '127.0.0.1', 'wss'), VISIT)).code, 1006);
  assert.equal((await connect(page, host.url('/', '127.0.0.1', 'ws'), VISIT)).code, 1006);
  await host.violation('tls_failed');
});

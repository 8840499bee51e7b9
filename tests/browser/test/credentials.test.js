// How a page proves who its visitor is: cookies, subprotocols, queries.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { launch, visit } from '../lib/chromium.js';
import { Host, TOKEN, policy, tokens } from '../lib/host.js';
import { VISIT, connect, serve } from '../lib/page.js';

const browser = await launch();
after(() => browser.close());

const opened = (host) => host.event((event) => event.type === 'open');
const sets = (token) => ({ headers: { 'Set-Cookie': `session=${token}; HttpOnly; SameSite=Lax; Path=/` } });

test('a cookie of the page server signs the visitor in', async (t) => {
  const site = await serve(t, sets(TOKEN));
  const host = await Host.start(t, policy([site.origin()], { ...tokens, token_sources: ['cookie:session'] }));
  const page = await visit(t, browser, site.origin());
  assert.equal((await connect(page, host.url(), VISIT)).code, 1000);
  assert.equal((await opened(host)).user, 'alice');
});

test('no cookie or a wrong one: no connection', async (t) => {
  for (const site of [await serve(t), await serve(t, sets('wrong'))]) {
    const host = await Host.start(t, policy([site.origin()], { ...tokens, token_sources: ['cookie:session'] }));
    const seen = await connect(await visit(t, browser, site.origin()), host.url(), VISIT);
    assert.deepEqual([seen.opened, seen.code], [false, 1006]);
    await host.violation('auth_failed');
  }
});

test("a foreign page cannot use the visitor's cookie", async (t) => {
  // Cookies know no ports: the browser does send it along.
  const [site, foreign] = [await serve(t, sets(TOKEN)), await serve(t)];
  const host = await Host.start(t, policy([site.origin()], { ...tokens, token_sources: ['cookie:session'] }));
  const page = await visit(t, browser, site.origin());
  assert.equal((await connect(page, host.url(), VISIT)).code, 1000);
  await page.goto(foreign.origin());
  const seen = await connect(page, host.url(), VISIT);
  assert.deepEqual([seen.opened, seen.code], [false, 1006]);
  await host.violation('origin_denied');
});

test('a token as a subprotocol: the browser gets "bearer" back, never the token', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()], { ...tokens, token_sources: ['subprotocol'] }));
  const page = await visit(t, browser, site.origin());
  const seen = await connect(page, host.url(), { ...VISIT, protocols: ['bearer', TOKEN] });
  assert.deepEqual([seen.opened, seen.protocol, seen.code], [true, 'bearer', 1000]);
  const open = await opened(host);
  assert.deepEqual([open.user, open.subprotocol], ['alice', 'bearer']);
  const wrong = await connect(page, host.url(), { ...VISIT, protocols: ['bearer', 'wrong'] });
  assert.deepEqual([wrong.opened, wrong.code], [false, 1006]);
  await host.violation('auth_failed');
});

test('an application subprotocol is negotiated', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()], { subprotocols: ['chat.v2', 'chat.v1'] }));
  const page = await visit(t, browser, site.origin());
  const seen = await connect(page, host.url(), { ...VISIT, protocols: ['chat.v1', 'chat.v2'] });
  assert.deepEqual([seen.protocol, seen.code], ['chat.v2', 1000]);
  // Nothing in common: the server names none, and the browser gives up, as the standard wants.
  assert.equal((await connect(page, host.url(), { ...VISIT, protocols: ['other'] })).code, 1006);
});

test('a token in the query is refused unless that is listed, and shown nowhere', async (t) => {
  const site = await serve(t);
  const closed = await Host.start(t, policy([site.origin()], tokens));
  const listed = await Host.start(t, policy([site.origin()], { ...tokens, token_sources: ['query:token'] }));
  const page = await visit(t, browser, site.origin());
  const path = `/room?token=${TOKEN}`;
  assert.equal((await connect(page, closed.url(path), VISIT)).code, 1006);
  await closed.violation('auth_failed');
  assert.equal((await connect(page, listed.url(path), VISIT)).code, 1000);
  const open = await opened(listed);
  assert.deepEqual([open.user, open.path], ['alice', '/room']);
  assert.equal((await connect(page, listed.url('/room?token=wr0ng-t0ken'), VISIT)).code, 1006);
  await listed.violation('auth_failed');
  for (const { log } of [closed, listed]) {
    assert.ok(!log.includes(TOKEN) && !log.includes('wr0ng-t0ken'), log);
  }
});

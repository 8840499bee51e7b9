// Which pages may connect (THREATS H1 to H3, H8).

import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { launch, visit } from '../lib/chromium.js';
import { Host, policy } from '../lib/host.js';
import { VISIT, connect, serve } from '../lib/page.js';

const browser = await launch();
after(() => browser.close());

/** A refused handshake is all that a page may learn. */
function refused(seen) {
  assert.deepEqual(seen, {
    opened: false,
    protocol: null,
    extensions: null,
    messages: [],
    error: true,
    code: 1006,
    reason: '',
    wasClean: false,
  });
}

test('an allowed page connects and talks', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()]));
  const page = await visit(t, browser, site.origin());
  const seen = await connect(page, host.url(), VISIT);
  assert.deepEqual([seen.opened, seen.code, seen.reason, seen.wasClean], [true, 1000, '', true]);
  assert.deepEqual(seen.messages, [{ event: 'echo', data: 'hello', status: 'ok' }]);
  const closed = await host.event((event) => event.type === 'close');
  assert.deepEqual([closed.code, closed.reason, closed.clean], [1000, 'bye', true]);
});

test('a page of another port is foreign', async (t) => {
  const [site, foreign] = [await serve(t), await serve(t)];
  const host = await Host.start(t, policy([site.origin()]));
  const page = await visit(t, browser, foreign.origin());
  refused(await connect(page, host.url(), VISIT));
  assert.equal((await host.violation('origin_denied')).ip, '127.0.0.1');
});

test('the same server under another name is foreign', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()]));
  refused(await connect(await visit(t, browser, site.origin('localhost')), host.url(), VISIT));
  await host.violation('origin_denied');
});

test('a wildcard takes subdomains and not the domain', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([`http://*.example.test:${site.port}`]));
  const from = async (name) => connect(await visit(t, browser, site.origin(name)), host.url(), VISIT);
  assert.equal((await from('app.example.test')).code, 1000);
  assert.equal((await from('a.b.example.test')).code, 1000);
  refused(await from('example.test'));
  refused(await from('evilexample.test'));
});

test('a sandboxed frame and a data URL have no origin', async (t) => {
  const site = await serve(t);
  const [host, lenient] = [await Host.start(t, policy([site.origin()])), await Host.start(t, policy(['null']))];
  const page = await visit(t, browser, site.origin());
  for (const source of ['srcdoc="<p>sandboxed</p>"', 'src="data:text/html,<p>data</p>"']) {
    await page.setContent(`<iframe sandbox="allow-scripts" ${source}></iframe>`);
    const frame = await (await page.waitForSelector('iframe')).contentFrame();
    await frame.waitForSelector('p');
    refused(await connect(frame, host.url(), VISIT));
    assert.equal((await connect(frame, lenient.url(), VISIT)).code, 1000);
    await host.violation('origin_denied');
  }
});

test('a file on the disk is foreign', async (t) => {
  const site = await serve(t);
  const host = await Host.start(t, policy([site.origin()]));
  const file = join(tmpdir(), `wsguard-${process.pid}.html`);
  t.after(() => rm(file));
  await writeFile(file, '<!doctype html><title>file</title>');
  refused(await connect(await visit(t, browser, `file://${file}`), host.url(), VISIT));
  await host.violation('origin_denied');
});

test('DNS rebinding is stopped by the Host header, even from an allowed origin', async (t) => {
  const site = await serve(t);
  const rebound = site.origin('rebound.test');
  const host = await Host.start(t, policy([site.origin(), rebound], { hosts: ['127.0.0.1', 'localhost'] }));
  const page = await visit(t, browser, rebound);
  refused(await connect(page, host.url('/', 'rebound.test'), VISIT));
  await host.violation('host_denied');
  assert.equal((await connect(page, host.url('/', 'localhost'), VISIT)).code, 1000);
});

// A page in a real Chromium that has the client, and tells what it sees.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const client = await readFile(new URL('../../client.min.js', import.meta.url));

/** Debian's Chromium; whoever starts it closes it. */
export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    headless: true,
    chromiumSandbox: false,
  });

/** Serves an empty page and the client; its origin. */
export async function serve(t) {
  const server = createServer(({ url }, response) => {
    const isScript = url === '/client.js';
    response.writeHead(200, { 'Content-Type': isScript ? 'text/javascript' : 'text/html' });
    response.end(isScript ? client : '<!doctype html><title>client</title>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** A page at `origin`; `token(isStale)`, if given, answers the client in it. */
export async function visit(t, browser, origin, token) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error));
  if (token) await page.exposeFunction('mint', token);
  await page.goto(origin);
  return { page, context, faults };
}

/**
 * Makes `client` in the page; `states` and `errors` are what it told. A string as `token` is that token, true asks `mint`.
 */
export function start(page, url, { token, ...options } = {}) {
  return page.evaluate(
    async ({ url, token, options }) => {
      const { connect } = await import('/client.js');
      Object.assign(globalThis, { states: [], errors: [] });
      globalThis.client = connect(url, {
        ...options,
        token: token === true ? (isStale) => globalThis.mint(isStale) : token,
        onError: ({ code }) => globalThis.errors.push(code),
      });
      globalThis.client.onState((state, { code, reason }) => globalThis.states.push([state, code, reason].join(' ').trim()));
    },
    { url, token, options },
  );
}

/** Waits until the client is in that state, `times` times. */
export const reached = (page, state, times = 1) =>
  page.waitForFunction(([state, times]) => globalThis.states.filter((told) => told.startsWith(state)).length >= times, [state, times]);

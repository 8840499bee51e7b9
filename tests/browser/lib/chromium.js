// The real browser: Debian's Chromium, driven over its DevTools protocol, with a profile of its own that is thrown away.

import { chromium } from 'playwright-core';

const FLAGS = [
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Names for DNS rebinding: whatever ends in .test is this machine.
  '--host-resolver-rules=MAP *.test 127.0.0.1',
];

/** Starts a browser; whoever starts it closes it. */
export async function launch(flags = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...FLAGS, ...flags],
    headless: true,
    chromiumSandbox: false,
  });
}

/** A page at `url`, without the cookies of any other. */
export async function visit(t, browser, url) {
  const context = await browser.newContext({ ignoreHTTPSErrors: false });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

// Debian's Firefox on one page that does what it is told. Nothing drives it: the page asks the server it came from what to do, and
// posts what it saw.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { talk, task } from './page.js';

const PATIENCE_MS = 60_000;

/** No first-run pages, and nothing that it looks for on a network by itself. */
const PREFERENCES = {
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.aboutwelcome.enabled': false,
  'browser.safebrowsing.downloads.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage_override.mstone': 'ignore',
  'datareporting.policy.dataSubmissionEnabled': false,
  'extensions.update.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,',
  'toolkit.telemetry.enabled': false,
  'toolkit.telemetry.server': '',
};

const PAGE = `<!doctype html><title>test</title><script>
const talk = ${talk};
(async () => {
  for (;;) {
    const task = await (await fetch('/task')).json();
    await fetch('/seen', { method: 'POST', body: JSON.stringify(await talk(task)) });
  }
})();
</script>`;

export class Firefox {
  #child;
  #profile;
  #server;
  #tasks = [];
  #asking = [];
  #seen;

  /** Starts a browser; whoever starts it closes it. */
  static async launch() {
    const firefox = new Firefox();
    firefox.#server = createServer((request, response) => firefox.#answer(request, response));
    firefox.#server.listen(0, '127.0.0.1');
    await once(firefox.#server, 'listening');
    firefox.origin = `http://127.0.0.1:${firefox.#server.address().port}`;
    firefox.#profile = await mkdtemp(join(tmpdir(), 'wsguard-firefox-'));
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
    await writeFile(join(firefox.#profile, 'user.js'), lines.join(''));
    firefox.#child = spawn(
      process.env.FIREFOX ?? '/usr/bin/firefox-esr',
      ['--headless', '--no-remote', '--profile', firefox.#profile, `${firefox.origin}/`],
      // A group of its own, with the processes that it starts.
      { stdio: 'ignore', detached: true, env: { ...process.env, HOME: firefox.#profile } },
    );
    await once(firefox.#child, 'spawn');
    return firefox;
  }

  /** As `connect` of `page.js`. */
  async connect(url, options) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('Firefox has said nothing')), PATIENCE_MS);
    });
    const seen = new Promise((resolve) => (this.#seen = resolve));
    this.#tasks.push(task(url, options));
    this.#hand();
    try {
      return await Promise.race([seen, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async close() {
    const exit = once(this.#child, 'exit');
    process.kill(-this.#child.pid, 'SIGKILL');
    await exit;
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  async #answer(request, response) {
    if (request.url === '/task') {
      this.#asking.push(response);
      this.#hand();
    } else if (request.url === '/seen') {
      const parts = [];
      for await (const part of request) parts.push(part);
      response.end();
      this.#seen?.(JSON.parse(Buffer.concat(parts)));
    } else {
      response.writeHead(request.url === '/' ? 200 : 404, { 'Content-Type': 'text/html' });
      response.end(request.url === '/' ? PAGE : '');
    }
  }

  /** Gives a task to the page that asks for one. */
  #hand() {
    if (this.#tasks.length === 0 || this.#asking.length === 0) return;
    this.#asking.shift().end(JSON.stringify(this.#tasks.shift()));
  }
}

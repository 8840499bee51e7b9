// One test host process (docs/HOST.md), chosen by the variable HOST; the Rust one by default.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PATIENCE_MS = 20_000;
const run = fileURLToPath(new URL(`../../hosts/${process.env.HOST ?? 'rust'}/run`, import.meta.url));

/** The honest visitor's token. */
export const TOKEN = 'good-token';

/** A policy for pages of these origins; `more` changes options. */
export function policy(origins, more = {}) {
  return {
    listen: '127.0.0.1:0',
    origins,
    auth: 'none',
    events: { echo: {}, close: {} },
    rate_limit: { per_second: 1000, burst: 1000 },
    ...more,
  };
}

/** The same with one user, whose token is `TOKEN`. */
export const tokens = { auth: { tokens: [{ token: TOKEN, user: 'alice' }] } };

export class Host {
  #child;
  #events = [];
  #waiting = new Set();
  log = '';

  /** Starts a host and ends it with the test. */
  static async start(t, options) {
    const host = new Host(options);
    t.after(() => host.#child.kill('SIGKILL'));
    const first = await host.event((event) => event.type === 'listening' || event.type === 'error');
    if (first.type === 'error') throw new Error(first.message);
    host.port = Number(first.addr.split(':').at(-1));
    return host;
  }

  constructor(options) {
    this.#child = spawn(run, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdin.on('error', () => {});
    this.#child.stderr.on('data', (bytes) => (this.log += bytes));
    createInterface(this.#child.stdout).on('line', (line) => {
      this.#events.push(JSON.parse(line));
      for (const look of this.#waiting) look();
    });
    this.#child.stdin.write(`${JSON.stringify({ options, app: {} })}\n`);
  }

  /** Where it is reached under a name that means 127.0.0.1. */
  url(path = '/', name = '127.0.0.1', scheme = 'ws') {
    return `${scheme}://${name}:${this.port}${path}`;
  }

  /** Takes the first event that `wanted` accepts. */
  event(wanted) {
    return new Promise((resolve, reject) => {
      const shown = () => JSON.stringify(this.#events.slice(-5));
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`the event did not come; instead: ${shown()}\n${this.log.slice(-500)}`));
      }, PATIENCE_MS);
      const look = () => {
        const at = this.#events.findIndex(wanted);
        if (at < 0) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(this.#events.splice(at, 1)[0]);
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** The violation of that code. */
  violation(code) {
    return this.event((event) => event.type === 'violation' && event.code === code);
  }

  /** A line of standard input, such as `{ do: 'disconnect_user', user: 'alice' }`. */
  command(line) {
    this.#child.stdin.write(`${JSON.stringify(line)}\n`);
  }

  /** Sends SIGKILL, and waits for the end. */
  async kill() {
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  /** Sends SIGTERM; the exit code. */
  async terminate() {
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    return (await exit)[0];
  }
}

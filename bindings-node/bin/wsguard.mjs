#!/usr/bin/env node
// The command wsguard: `npx wsguard --help`. The addon has all of it.

import { createRequire } from 'node:module';

const { load } = createRequire(import.meta.url)('../lib/native.js');

// Node ends on these signals by a handler of its own, which the command's would call, too: a listener that comes and goes leaves the
// system's default in its place.
for (const signal of ['SIGINT', 'SIGTERM']) {
  const nothing = () => {};
  process.on(signal, nothing).off(signal, nothing);
}

process.exitCode = load().command(process.argv.slice(2), process.env.npm_command === 'exec');

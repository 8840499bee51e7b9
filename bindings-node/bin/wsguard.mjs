#!/usr/bin/env node
// The command wsguard: `npx wsguard --help`. The addon has all of it.

import { createRequire } from 'node:module';

const { load } = createRequire(import.meta.url)('../lib/native.js');

process.exitCode = load().command(process.argv.slice(2), process.env.npm_command === 'exec');

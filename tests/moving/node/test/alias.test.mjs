// examples/node/moving/alias.mjs gives wsguard/ws to the libraries that it lists, and to nobody else.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { onGuarded } from '../lib/engines.mjs';

const EXAMPLES = new URL('../../../../examples/node/moving/', import.meta.url);
const WHO = ['./alias.mjs', '@fastify/websocket', '@nestjs/platform-ws', '@y/websocket-server/utils', 'express-ws', 'engine.io', 'graphql-ws'];

/** What `ws` is for code that stands at `file`, by `require`. */
const script = `
  import { createRequire } from 'node:module';
  const asked = {};
  for (const file of process.argv.slice(1)) {
    const from = createRequire(file);
    asked[file] = from('ws').guard !== undefined;
  }
  console.log(JSON.stringify(asked));
`;

onGuarded('the alias reaches the libraries that it lists, and nobody else', async () => {
  const { resolve } = createRequire(new URL('package.json', EXAMPLES));
  const files = WHO.map((name) => resolve(name));
  const arguments_ = ['--no-warnings', '--import', './alias.mjs', '--input-type=module', '-e', script, ...files];
  const { stdout } = await promisify(execFile)(process.execPath, arguments_, { cwd: fileURLToPath(EXAMPLES) });
  const asked = Object.values(JSON.parse(stdout));
  assert.deepEqual(Object.fromEntries(WHO.map((name, n) => [name, asked[n]])), {
    './alias.mjs': false,
    '@fastify/websocket': true,
    '@nestjs/platform-ws': true,
    '@y/websocket-server/utils': true,
    'express-ws': true,
    'engine.io': false,
    'graphql-ws': false,
  });
});

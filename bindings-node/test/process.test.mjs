// What is around the package: a test runner's sandbox, handles that stay open, what is said to a server that has ended.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { policy, run } from './harness.mjs';

/** Loads the package as Jest does: its files are compiled in a realm of their own, Node's modules and the addon are Node's. */
function loadIn(realm) {
  const loaded = new Map();
  const load = (file) => {
    if (loaded.has(file)) return loaded.get(file).exports;
    const module = { exports: {} };
    loaded.set(file, module);
    const nodes = createRequire(file);
    const required = (name) => (name.startsWith('.') ? load(nodes.resolve(name)) : nodes(name));
    const names = ['module', 'exports', 'require', '__filename', '__dirname'];
    const compiled = vm.compileFunction(readFileSync(file, 'utf8'), names, { parsingContext: realm, filename: file });
    compiled(module, module.exports, required, file, path.dirname(file));
    return module.exports;
  };
  return load(fileURLToPath(new URL('../index.js', import.meta.url)));
}

test("errors are of the realm that loaded the package: `toThrow(Error)` holds in a runner's sandbox", async (t) => {
  const realm = vm.createContext({ process, Buffer, console, setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, queueMicrotask });
  const theirs = vm.runInContext('({ Error, TypeError })', realm);
  assert.notEqual(theirs.Error, Error);
  const { Server } = loadIn(realm);
  const server = new Server(policy({ events: { say: {} } }));
  t.after(() => server.stop());
  const address = await server.listen();
  const other = new Server(policy({ listen: address }));
  const calls = {
    'no policy': () => new Server({}),
    'an option that is wrong': () => new Server(policy({ threads: -1 })),
    'an option that is none': () => new Server(policy({ orgins: [] })),
    'a schema that is none': () => new Server(policy({ events: { say: { schema: { type: 'strin' } } } })),
    'the JSON of a policy': () => new Server(policy({ auth: { jwt: { key: 'x' } } })),
    'a server that was not started': () => new Server(policy()).stats(),
    'an address that is taken': () => other.listen(),
    'a user that is none': () => server.disconnectUser(''),
    'certificates where there is no TLS': () => server.reloadTls(),
    'a second start': () => server.listen(),
  };
  for (const [what, call] of Object.entries(calls)) {
    let thrown;
    try {
      await call();
    } catch (error) {
      thrown = error;
    }
    assert.ok(thrown !== undefined, `${what}: no error`);
    assert.ok(thrown instanceof theirs.Error, `${what}: ${thrown.constructor?.name} of another realm: ${thrown.message}`);
    assert.equal(typeof thrown.code, 'string', what);
    if (thrown.cause !== undefined) assert.ok(thrown.cause instanceof theirs.Error, `${what}: its cause`);
  }
});

test('a server that has ended leaves no handle open', async () => {
  assert.deepEqual(await run('open-handles.mjs', { node: ['--expose-gc'] }), { code: 0, signal: null, out: 'none\n', err: '' });
});

test('what is said to a server that has ended is dropped, and nothing is printed', async () => {
  assert.deepEqual(await run('after-the-end.mjs'), { code: 0, signal: null, out: 'said\n', err: '' });
});

test("the addon is found without Node's report, which looks up every open socket", async () => {
  assert.deepEqual(await run('no-report.mjs'), { code: 0, signal: null, out: 'loaded\n', err: '' });
});

test("a worker of Node's cluster that is disconnected drains and ends", async () => {
  const { out, err } = await run('worker-leaves.mjs');
  assert.deepEqual([out, err], ['stopped\nexit 0 null\n', '']);
});

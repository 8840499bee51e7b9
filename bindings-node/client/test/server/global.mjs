// With the global WebSocket of Node: `node global.mjs URL TOKEN`; says what it sees, a line each.

import { connect } from '../../client.min.js';

const [url, token] = process.argv.slice(2);
const print = (...values) => console.log(values.join(' '));

for (const tokenAs of ['subprotocol', 'header']) {
  const client = connect(url, { token, tokenAs, minDelayMs: 10, maxDelayMs: 100, onError: ({ code }) => print('error', code) });
  client.onState((state, { code, reason }) => print(state, code ?? '', reason ?? ''));
  print(tokenAs, await client.request('echo', tokenAs, { timeoutMs: 20_000 }));
  client.close();
  await client.closed;
}

// It is refused, without a word why: attempts go on, until it is enough.
const failures = await new Promise((resolve) => {
  const client = connect(url, { token: 'wrong', minDelayMs: 10, maxDelayMs: 10 });
  client.onState((state, info) => {
    if (state !== 'reconnecting') return print('after a wrong token:', state);
    if (info.failures < 3) return;
    client.close();
    resolve(info.failures);
  });
});
print('failures', failures);

// The process that started this kills the server after the next line, and starts it again.
const client = connect(url, { token, minDelayMs: 10, maxDelayMs: 100 });
let opened = 0;
client.onState(async (state, { code }) => {
  print('life', state, code ?? '');
  if (state !== 'open') return;
  opened += 1;
  if (opened === 2) {
    print('back', await client.request('echo', 'again'));
    client.close();
  }
});

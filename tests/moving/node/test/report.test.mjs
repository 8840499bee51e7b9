// The report mode of the guide: nobody is refused, and the log says who would be.

import assert from 'node:assert/strict';
import { connect } from '../lib/client.mjs';
import { onGuarded, start } from '../lib/engines.mjs';

const file = new URL('../fixtures/report.mjs', import.meta.url);

onGuarded('report mode: a foreign page without a token gets in, and the log says what would have been refused', async (t, engine) => {
  const app = await start(t, engine, 'report.mjs', { file });
  const ws = await connect(t, `ws://${app.address}/`, { origin: 'http://evil.test' });
  for (let n = 0; n < 6; n++) ws.send(`${n}`);
  for (let n = 0; n < 6; n++) assert.equal(await ws.next(), `${n}`);
  ws.close(1000);
  assert.equal((await ws.ended).code, 1000);
  for (const code of ['origin_denied', 'auth_failed', 'rate_limited']) await app.complains(new RegExp(`"${code}"`));
  await app.complains(/"level":"warn"[^\n]*report/i);
});

onGuarded('report mode: sizes and framing are enforced all the same', async (t, engine) => {
  const { address } = await start(t, engine, 'report.mjs', { file });
  const ws = await connect(t, `ws://${address}/`, { origin: 'http://evil.test' });
  ws.send('x'.repeat(65_537));
  assert.equal((await ws.ended).code, 1009);
  assert.equal((await fetch(`http://${address}/`)).status, 426);
});

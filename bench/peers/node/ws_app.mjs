// An echo as ws's README writes it. With a policy it runs on `wsguard/ws` instead of `ws`: the import and the policy are all that
// differs. Behind TLS it has an HTTPS server of Node's, on both sides.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';

import { DROP_IN, camel } from './drop_in.mjs';
import { listen, start } from './start.mjs';

start(async ({ tls, policy }) => {
  const { WebSocketServer } = await import(policy ? DROP_IN : 'ws');
  const server = tls && https.createServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) });
  const where = server ? { server } : { host: '127.0.0.1', port: 0, backlog: 4096 };
  const wss = new WebSocketServer({ ...where, perMessageDeflate: false, ...(policy && { policy: camel(policy) }) });
  wss.on('connection', (ws) => {
    ws.on('error', () => {}); // a peer that goes away is the ordinary end here
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  });
  if (server) return listen(server);
  await once(wss, 'listening');
  return wss.address().port;
});

// What every peer does around its server, as docs/HOST.md asks of a test host: options on the first line of stdin, one
// `listening` line on stdout, and the end with the end of stdin, so that a peer never outlives the bench.

import { createInterface } from 'node:readline';

/** Calls `listen` with the options; it resolves to the port on loopback. */
export function start(listen) {
  const lines = createInterface({ input: process.stdin });
  lines.once('line', async (line) => {
    const port = await listen(JSON.parse(line));
    console.log(JSON.stringify({ type: 'listening', addr: `127.0.0.1:${port}` }));
  });
  lines.once('close', () => process.exit(0));
}

/** Listens on any free port of loopback. */
export function listen(server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => resolve(server.address().port));
  });
}

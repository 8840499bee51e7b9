// The server of y-websocket: documents that several people edit at once. PORT=0 takes any port.
// Its own program works as well: `WSGUARD_POLICY=policy.json node --import ./alias.mjs node_modules/@y/websocket-server/src/server.js`.

import { setupWSConnection } from '@y/websocket-server/utils';
import { WebSocketServer } from 'wsguard/ws';

const wss = new WebSocketServer({
  port: Number(process.env.PORT ?? 1234),
  host: '127.0.0.1',
  policy: { origins: ['http://localhost:3000'], auth: 'none', maxMessageBytes: 1_048_576 },
});
wss.on('connection', setupWSConnection);
wss.on('listening', () => console.log(`listening on 127.0.0.1:${wss.address().port}`));
process.on('SIGTERM', () => {
  wss.close();
  for (const ws of wss.clients) ws.close(1012);
});

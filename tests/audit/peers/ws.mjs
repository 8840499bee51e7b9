// The echo of ws's README, with nothing stated but the port.

import { WebSocketServer } from 'ws';

const wss = new WebSocketServer({ host: '127.0.0.1', port: 0 });

wss.on('connection', (ws) => {
  ws.on('error', console.error);
  ws.on('message', (data, binary) => ws.send(data, { binary }));
});
wss.on('listening', () => console.log(wss.address().port));

process.stdin.resume().on('end', () => process.exit(0));

// A real Redis for one test file, and one that refuses everybody.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { Worker } from 'node:worker_threads';

/** Why there can be none; undefined: there can. */
export const missing = spawnSync('redis-server', ['--version']).error ? 'redis-server is not installed: tests/packages.sh redis-server' : undefined;

export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts one that keeps nothing; its port. */
export async function startRedis(t) {
  const port = await freePort();
  const redis = spawn('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(async () => {
    redis.kill('SIGKILL');
    await once(redis, 'close');
  });
  for await (const line of createInterface(redis.stdout)) if (line.includes('Ready to accept connections')) break;
  redis.stdout.resume();
  return port;
}

/** Somebody who hears what is published in a channel, and answers nothing. */
export async function listenTo(t, port, channel) {
  const peer = net.connect(port, '127.0.0.1');
  t.after(() => peer.destroy());
  peer.write(`SUBSCRIBE ${channel}\r\n`);
  let said = '';
  for await (const chunk of peer.iterator({ destroyOnReturn: false })) if ((said += chunk).endsWith(':1\r\n')) break;
  peer.resume();
}

/** What answers as a Redis does to a wrong password; its port. On a thread of its own: a start waits for Redis on this one. */
export async function refusing(t) {
  const refuse = new Worker(
    `const server = require('node:net').createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.write('-WRONGPASS invalid username-password pair or user is disabled.\\r\\n'.repeat(8)));
    });
    server.listen(0, '127.0.0.1', () => require('node:worker_threads').parentPort.postMessage(server.address().port));`,
    { eval: true },
  );
  t.after(() => refuse.terminate());
  return (await once(refuse, 'message'))[0];
}

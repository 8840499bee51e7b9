// A policy in a file: SIGHUP reads it again. An error leaves the old one in force, and says what is wrong.

import { readFileSync } from 'node:fs';
import { Server, logToStderr } from 'wsguard';

const file = process.env.POLICY ?? new URL('policy.json', import.meta.url);
const readPolicy = () => JSON.parse(readFileSync(file, 'utf8'));

logToStderr();
const server = new Server(readPolicy());
server.on('say', (conn, data) => server.toAll().emit('said', { user: conn.user, ...data }));
server.on('wipe', () => server.toAll().emit('wiped'));
console.log(`listening on ${await server.listen()}`);

process.on('SIGHUP', () => {
  try {
    console.log(`policy ${server.reload(readPolicy())} is in force`);
  } catch (error) {
    console.log(`the policy stays as it is: ${error.message}`);
  }
});
process.once('SIGTERM', () => server.drain());

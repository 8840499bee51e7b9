// The Node test host: what an application writes, and nothing else. See docs/HOST.md for the contract.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, accept, acceptAnonymous, logToStderr, reject } from '../../../bindings-node/index.mjs';
import { camelOptions, snakePath } from './spelling.mjs';

const quiet = process.argv.includes('--quiet');
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

logToStderr();
const input = createInterface({ input: process.stdin, crlfDelay: Infinity });
const lines = input[Symbol.asyncIterator]();
let app = {};

/** The options as Node spells them, with the callback where it is asked. */
function policyOf(options) {
  const policy = camelOptions(options);
  const policies = [policy, ...Object.values(policy.routes ?? {})];
  if (policies.some((one) => one?.auth === 'callback')) policy.authenticate = authenticate;
  return policy;
}

/** The application's authentication, as `app.authenticate` scripts it. */
async function authenticate(request) {
  const { token, user, delay_ms: delay, expires_in_ms: lifetime } = app.authenticate ?? {};
  switch (request.get('x-auth-token')) {
    case 'boom':
      throw new Error('the authentication callback fails, as it was asked to');
    case 'hang':
      return new Promise(() => {});
    case 'teapot':
      return reject(418, { headers: { 'X-Reason': 'teapot' }, body: 'short and stout' });
    case 'cookie':
      return letIn(user, { headers: { 'Set-Cookie': 'sid=1' } });
    case 'admin':
      return accept({ user: 'root', roles: ['admin'] });
    case 'proto':
      return letIn(user, { subprotocol: request.headers['sec-websocket-protocol']?.split(',')[1]?.trim() });
    case 'twice':
      return answerTwice(letIn(user), reject());
    // What an application must not be able to send, for the tests.
    case 'inject':
      return letIn(user, { headers: { 'X-A': '1\r\nX-Evil: 1' } });
    case 'oversize':
      return reject(403, { body: 'x'.repeat(65_537) });
    case token:
      if (delay) await sleep(delay);
      return letIn(user, { expiresAtMs: lifetime === undefined ? undefined : Date.now() + lifetime });
    default:
      return reject();
  }
}

/** The first answer of a promise counts: another one cannot be given. */
function answerTwice(first, second) {
  return new Promise((resolve) => {
    resolve(first);
    resolve(second);
  });
}

/** Somebody, or, where the script names nobody, anybody. */
const letIn = (user, session = {}) => (user == null ? acceptAnonymous(session) : accept({ user, ...session }));

/** The application of the `raw` protocol. */
function serveRaw(server) {
  if (!quiet) {
    server.on('message', (conn, data, isBinary) => {
      print({ type: 'message', conn: conn.id, kind: isBinary ? 'binary' : 'text', bytes: Buffer.byteLength(data) });
    });
  }
  server.on('message', (conn, data) => conn.send(data));
}

/** The server, for handlers. */
let running;

/** The handlers of the `json` protocol. */
const handlers = {
  echo: (conn, data, meta) => conn.reply(meta, 'echo', data),
  join(conn, data, meta) {
    conn.join(data.room);
    conn.reply(meta, 'joined', data);
  },
  leave(conn, data, meta) {
    conn.leave(data.room);
    conn.reply(meta, 'left', data);
  },
  say: (_conn, data) => running.to(data.room).emit('said', data),
  throw() {
    throw new Error('the handler of `throw` fails, as it was asked to');
  },
  block(conn, data, meta) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, data?.ms ?? 0);
    conn.reply(meta, 'unblocked', data);
  },
  close: (conn, data) => conn.close(data?.code, data?.reason),
  whoami: (conn, _data, meta) => {
    const { user, roles, ip, path, subprotocol } = conn;
    conn.reply(meta, 'whoami', { user, roles, ip, path, subprotocol });
  },
};

/** The application of the `json` protocol. */
function hearEvents(server) {
  server.on('event', (conn, _data, meta) => {
    print({ type: 'message', conn: conn.id, event: meta.event, bytes: meta.sizeBytes });
  });
}

/** Serves what the options have, at the top and in routes; a reload may bring more. */
function serve(server, { protocol, events, routes = {} }) {
  const policies = [{ protocol, events }, ...Object.values(routes)];
  if (policies.some((one) => one.protocol === 'raw')) serveOnce('raw', () => serveRaw(server));
  if (policies.some((one) => (one.protocol ?? protocol) !== 'raw') && !quiet) serveOnce('json', () => hearEvents(server));
  // What the contract of a test does not have is an error to listen to.
  for (const [event, handler] of Object.entries(handlers)) {
    if (policies.some((one) => Object.hasOwn(one.events ?? {}, event))) serveOnce(`event ${event}`, () => server.onEvent(event, handler));
  }
}

const served = new Set();

function serveOnce(what, begin) {
  if (!served.has(what)) begin();
  served.add(what);
}

function tellEvents(server) {
  server.on('open', ({ id, ip, user, path, subprotocol, roles, compressed }) => {
    print({ type: 'open', conn: id, ip, user, path, subprotocol, roles, compressed });
  });
  server.on('close', (conn, code, { reason, clean }) => print({ type: 'close', conn: conn.id, code, reason, clean }));
  server.on('violation', ({ code, ip, user, connId, event }) => print({ type: 'violation', code, ip, user, conn: connId, event }));
}

function stats(server) {
  const counters = Object.entries(server.stats()).map(([name, value]) => [snakePath(name), value]);
  print({ type: 'stats', ...Object.fromEntries(counters) });
}

function reload(server, options) {
  const generation = server.reload(policyOf(options));
  serve(server, options);
  return generation;
}

/** The pong comes later. */
function ping(server, id) {
  const conn = server.get(id);
  if (conn === undefined) throw Object.assign(new Error('no connection has this id'), { code: 'connection_closed' });
  conn.ping().then(() => print({ type: 'pong', conn: id }), () => {});
}

const whom = ({ ip, user }) => (ip === undefined ? { user } : { ip });

/** One line of standard input after the first. */
async function carryOut(server, line) {
  let name = null;
  try {
    const command = JSON.parse(line);
    name = command.do;
    if (name === 'stats') return stats(server);
    if (name === 'metrics') return print({ type: 'metrics', text: server.metrics() });
    if (name === 'reload') return print({ type: 'done', do: name, ok: true, generation: reload(server, command.options) });
    if (name === 'disconnect_user') server.disconnectUser(command.user);
    else if (name === 'broadcast') server.to(command.room).emit(command.event, command.data);
    else if (name === 'to_user') server.toUser(command.user).emit(command.event, command.data);
    else if (name === 'ping') ping(server, command.conn);
    else if (name === 'reload_tls') server.reloadTls();
    else if (name === 'ban') server.ban({ ...whom(command), forMs: command.for_ms, reason: command.reason });
    else if (name === 'unban') server.unban(whom(command));
    else if (name === 'drain') await server.drain({ timeoutMs: command.timeout_ms ?? 5000, jitterMs: command.jitter_ms ?? 0 });
    else throw new Error('unknown command');
    print({ type: 'done', do: name, ok: true });
  } catch (error) {
    const { code, option, message } = error;
    print({ type: 'done', do: name, ok: false, code, option: snakePath(option), message, error: message });
  }
  if (name === 'drain') end();
}

/** Nothing is left to be done: input that is still open must not keep the process. */
function end() {
  input.close();
  process.stdin.destroy();
}

/** The first line of standard input. */
async function readFirst() {
  try {
    const { options, app: script } = JSON.parse((await lines.next()).value);
    app = script ?? {};
    if (options !== null && typeof options === 'object' && !Array.isArray(options)) return options;
    throw new Error('the first line needs options, an object');
  } catch ({ message }) {
    throw Object.assign(new Error(message), { code: 'invalid_option', option: 'options' });
  }
}

async function start() {
  const options = await readFirst();
  const server = (running = new Server(policyOf(options)));
  serve(server, options);
  if (!quiet) tellEvents(server);
  const address = await server.listen();
  // Whoever reads the next line may send a signal at once.
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => server.drain({ timeoutMs: 5000 }).then(end));
  }
  print({ type: 'listening', addr: address });
  return server;
}

async function main() {
  let server;
  try {
    server = await start();
  } catch (error) {
    print({ type: 'error', code: error.code, option: snakePath(error.option), message: error.message });
    process.exit(2);
  }
  for await (const line of lines) await carryOut(server, line);
  await server.drain({ timeoutMs: 5000 });
}

await main();

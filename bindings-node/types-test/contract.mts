// What the typings promise. Lines that must not compile say so; tsc fails when one of them does.

import { z } from 'zod';
import wsguard, { Server, accept, acceptAnonymous, reject } from 'wsguard';
import type { Connection, Meta, RouteOptions, Sent, Stats, VerdictCode } from 'wsguard';
import { connect, makeConnection, makeRequest } from 'wsguard/testing';

const equal = <A, B>(..._same: [A] extends [B] ? ([B] extends [A] ? [] : [never]) : [never]): void => {};

// Types of data are inferred from Standard Schemas.
const inferred = new Server({
  origins: ['https://app.example.com'],
  auth: 'callback',
  authenticate: async (request) => {
    equal<typeof request.token, string | null>();
    return request.get('x-key') === 'k' ? accept({ user: 'alice', data: { role: 'admin' } }) : reject(403);
  },
  events: {
    say: { schema: z.object({ text: z.string(), at: z.string().transform(Number) }), cost: 2 },
    ping: { schema: { type: 'string' } },
    close: {},
  },
});
inferred.on('say', (conn, data, meta) => {
  equal<typeof data, { text: string; at: number }>();
  equal<typeof meta, Meta>();
  equal<typeof conn.data, { role: string }>();
  equal<ReturnType<typeof conn.send>, Sent>();
  equal<Sent, 'sent' | 'queued' | 'closed'>();
  equal<typeof meta.sizeBytes, number>();
  // @ts-expect-error there is no such field
  data.nothing;
});
// A JSON Schema says nothing to TypeScript: what came is checked, and may be used as it is.
inferred.on('ping', (_conn, data) => equal<typeof data, any>());
inferred.onEvent('close', (_conn, data) => equal<typeof data, any>());
inferred.on('ping', (conn, data) => inferred.to('lobby').emit('said', { user: conn.user, ...data }));
inferred.on('close', (_conn, code, { reason, clean }) => {
  equal<typeof code, number>();
  equal<typeof reason, string>();
  equal<typeof clean, boolean>();
});
// @ts-expect-error no event is called so
inferred.on('shout', () => {});
// @ts-expect-error no event is called so
inferred.onEvent('shout', () => {});

// Or stated.
const stated = new Server<{ echo: { text: string }; left: { room: string } }, { id: number }>({
  dangerouslyAllowAnyOrigin: true,
  auth: 'none',
  events: { echo: { schema: { type: 'object' } }, left: {} },
});
stated.on('echo', (conn, data, meta) => {
  equal<typeof data, { text: string }>();
  equal<typeof conn.data, { id: number }>();
  conn.emit('echo', data);
  conn.reply(meta, 'echo', { text: '' });
  conn.emit('anything', { else: 1 });
  stated.to('room').except(conn).emit('left', { room: 'r' });
  conn.emit('echo', data, { compress: false });
  conn.reply(meta, 'echo', { text: '' }, { compress: false });
  conn.replyError(meta, 'echo', 'no', { compress: false });
  void conn.call('echo', { text: '' }, { compress: false, timeoutMs: 5 });
  stated.toAll().emit('left', { room: 'r' }, { compress: false });
  equal<typeof conn.compressed, boolean>();
  // @ts-expect-error there is no such option
  conn.emit('echo', data, { binary: true });
  // @ts-expect-error a callback is none
  conn.emit('echo', data, () => {});
  // @ts-expect-error text is missing
  conn.emit('echo', {});
  // @ts-expect-error text is missing
  conn.reply(meta, 'echo', {});
  // @ts-expect-error room must be a string
  stated.toAll().emit('left', { room: 1 });
});

// The server's own events.
stated.on('open', (conn) => equal<typeof conn, Connection<{ echo: { text: string }; left: { room: string } }, { id: number }>>());
stated.on('violation', ({ code, detail }) => {
  equal<typeof code, VerdictCode>();
  equal<typeof detail, string>();
  // @ts-expect-error no verdict is called so
  if (code === 'origin_refused') return;
});
stated.on('error', (error, conn) => conn?.close(1011, String(error)));
const raw = new Server({ origins: ['https://a.example'], auth: 'none', protocol: 'raw', rateLimit: null });
raw.on('message', (conn, data, isBinary) => {
  equal<typeof data, string | Buffer>();
  equal<typeof isBinary, boolean>();
  conn.send(data);
  conn.send(new Uint8Array(1).buffer);
  // @ts-expect-error an object is no message
  conn.send({});
});

// Options.
// @ts-expect-error auth is required
new Server({ origins: [] });
// An authenticate function says how peers are authenticated.
const implied = new Server({
  origins: [],
  authenticate: (request) => {
    equal<typeof request.query, string | null>();
    return accept({ user: 'alice', data: 5 });
  },
});
implied.on('open', (conn) => equal<typeof conn.data, number>());
implied.on('violation', ({ closeCode, httpStatus }) => {
  equal<typeof closeCode, number | null>();
  equal<typeof httpStatus, number | null>();
});
// @ts-expect-error there is no such option
new Server({ origins: [], auth: 'none', maxConection: 1 });
// @ts-expect-error options are camelCase here
new Server({ origins: [], auth: 'none', max_connections: 1 });
// @ts-expect-error a number is wanted
new Server({ origins: [], auth: 'none', rateLimit: { perSecond: '20' } });
// @ts-expect-error accept or reject is wanted
new Server({ origins: [], auth: 'callback', authenticate: () => true });
new Server({ origins: [], auth: { jwt: { algorithms: ['ES256'], key: 'k', leewayS: 5 } }, tls: { cert: Buffer.alloc(1), key: '' } });

async function life(signal: AbortSignal) {
  await using server = new wsguard.Server({ origins: [], auth: { tokens: [{ token: 't', user: 'u' }] } });
  equal<string, Awaited<ReturnType<typeof server.listen>>>();
  await server.listen({ signal });
  equal<ReturnType<typeof server.stats>, Stats>();
  await server.drain({ timeoutMs: 1, jitterMs: 0 });
}
void life;

// Who is let in has a name, or is said to have none.
accept({ user: 'alice' });
acceptAnonymous({ expiresAtMs: 5 });
// @ts-expect-error a user is wanted
accept({ data: 5 });
// @ts-expect-error a user is wanted
accept({ user: undefined as string | undefined });
// @ts-expect-error an object is wanted
accept('alice');
// @ts-expect-error there is no such field
accept({ username: 'alice' });

// What is no option may be undefined.
const listen: string | undefined = process.env.LISTEN;
new Server({ origins: [], auth: 'none', listen, rateLimit: { perSecond: undefined } });

// emit sends nothing.
// @ts-expect-error no event of the server is called so
stated.emit('echo', { text: '' });
// @ts-expect-error whom to leave out must be said
stated.to('room').except();

// Events of routes.
const routed = new Server({
  origins: [],
  auth: 'none',
  events: { say: { schema: z.string() } },
  routes: {
    '/numbers': { events: { say: { schema: z.number() }, add: { schema: z.object({ n: z.number() }) }, any: {} }, maxFragments: 1 },
    '/room/{name}': { rateLimit: null },
  },
});
routed.on('say', (_conn, data) => equal<typeof data, string | number>());
routed.on('add', (conn, data) => {
  equal<typeof data, { n: number }>();
  equal<typeof conn.params, Readonly<Record<string, string>>>();
});
routed.on('any', (_conn, data) => equal<typeof data, any>());
// @ts-expect-error no event is called so
routed.on('shout', () => {});
// @ts-expect-error there is no such option
new Server({ origins: [], auth: 'none', routes: { '/a': { events: { x: { price: 1 } } } } });
// @ts-expect-error it stands at the top only
new Server({ origins: [], auth: 'none', routes: { '/a': { autoBan: null } } });
// @ts-expect-error it stands at the top only
new Server({ origins: [], auth: 'none', routes: { '/a': { events: {}, listen: '127.0.0.1:1' } } });
const route: RouteOptions = { auth: 'none', origins: [], onViolation: 'report' };
// @ts-expect-error routes are not nested
route.routes = {};

// While it runs.
equal<ReturnType<typeof routed.reload>, number>();
routed.ban({ user: 'alice', forMs: 5 });
routed.unban({ ip: '::1' });
// @ts-expect-error one of both
routed.ban({ user: 'alice', ip: '::1' });
// @ts-expect-error somebody
routed.ban({ forMs: 5 });
routed.use(async (conn, call, next) => {
  equal<typeof call.event, string>();
  if (conn.roles.includes('admin')) await next();
});
routed.on('open', async (conn) => {
  const { code, reason } = await conn.closed;
  equal<typeof code, number>();
  equal<typeof reason, string>();
  await fetch('https://a.example', { signal: conn.signal });
});
routed.on('error', (_error, _conn, event) => equal<typeof event, string | undefined>());
accept({ user: 'alice', roles: ['admin'] });
// @ts-expect-error a list is wanted
accept({ user: 'alice', roles: 'admin' });

async function tested() {
  await using client = await connect(routed, { user: 'alice', path: '/numbers' });
  client.emit('say', 1);
  equal<(Awaited<ReturnType<typeof client.expect>>)['event'], string>();
  const { conn, sent } = makeConnection({ user: 'alice', data: { n: 1 } });
  equal<typeof conn.data, { n: number }>();
  equal<typeof sent, any[]>();
  makeRequest({ path: '/x' }).get('x');
}
void tested;

// What a connection knows, whom it reaches, what it may ask.
routed.on('open', async (conn) => {
  equal<typeof conn.query, URLSearchParams>();
  equal<typeof conn.queryString, string | null>();
  equal<typeof conn.openedAtMs, number>();
  equal<NonNullable<typeof conn.tls>['serverName'], string | null>();
  equal<Awaited<ReturnType<typeof conn.ping>>, number>();
  await conn.call('add', { n: 1 }, { timeoutMs: 5 });
  // @ts-expect-error n must be a number
  await conn.call('add', { n: 'x' });
  // @ts-expect-error there is no such option
  await conn.call('add', { n: 1 }, { timeout: 5 });
  routed.to('a', 'b').except(conn).members()[0]?.terminate();
  equal<ReturnType<typeof routed.get>, typeof conn | undefined>();
  equal<ReturnType<ReturnType<typeof routed.toUser>['members']>, (typeof conn)[]>();
  conn.replyError({ id: 5 }, 'add', { code: 'busy' });
});
routed.on('close', (_conn, _code, { verdict }) => equal<typeof verdict, VerdictCode | null>());
// @ts-expect-error a room is wanted
routed.to();
accept({ user: 'alice', headers: { 'Set-Cookie': ['a=1', 'b=2'] }, subprotocol: 'v2' });
reject(302, { headers: new Headers({ Location: '/' }), body: new Uint8Array(1) });
// @ts-expect-error a header has a value
reject(401, { headers: { a: {} } });
wsguard.logTo(({ level, target, ...fields }) => {
  equal<typeof target, string>();
  equal<(typeof fields)['code'], unknown>();
  // @ts-expect-error no level is called so
  if (level === 'fatal') return;
}, { level: 'warn' });
wsguard.logToStderr({ format: 'json' });

'use strict';
// The policy of a server: where it comes from, and what the options of `ws` make tighter.

const { readFileSync } = require('node:fs');
const { networkInterfaces } = require('node:os');
const { acceptAnonymous } = require('../lib/authenticate.js');
const { failure } = require('../lib/errors.js');
const { isPlain, readOptions } = require('../lib/policy.js');
const { hasCompression, tightenCompression } = require('./deflate.js');
const { set, valueOf } = require('./spelling.js');

const NONE =
  'wsguard/ws needs a policy: at least `origins` (who may connect) and `auth` (how they say who they are), as the option ' +
  '`policy` ({ policy: { origins: ["https://app.example.com"], auth: { tokens: [...] } } }), as guard(policy) for a library that ' +
  'makes the server itself, or as a JSON file that WSGUARD_POLICY names; to have neither, say so: ' +
  'dangerouslyAllowAnyOrigin: true, auth: "none"';
const LOCAL = 'localhost';

/** The policy as it was stated: the option, else the file. */
function stated(options) {
  const { policy } = options;
  if (policy !== undefined && policy !== null) return policy;
  const file = process.env.WSGUARD_POLICY;
  if (!file) throw failure('missing_option', NONE, 'policy');
  let text;
  try {
    text = readFileSync(file, 'utf8');
    return JSON.parse(text);
  } catch (error) {
    const what = text === undefined ? 'cannot be read' : 'is no JSON';
    throw failure('invalid_option', `WSGUARD_POLICY: the file ${what}: ${error.message}`, 'WSGUARD_POLICY', error);
  }
}

/** `limit` counts if it is less than what the policy (or the core, where that says nothing) allows. */
function tighten(policy, name, limit, usual) {
  if (typeof limit !== 'number' || !(limit > 0)) return;
  const most = Math.floor(limit);
  const before = valueOf(policy, name) ?? usual;
  if (most < before) set(policy, name, most);
}

/**
 * Also what a route states for itself; the rest it has of the top. What is no plain object stays as it is, for `readOptions` to
 * refuse: a copy of it would have lost what it says.
 */
function tightenAll(policy, limits) {
  const { routes } = policy;
  if (isPlain(routes)) {
    policy.routes = Object.fromEntries(Object.entries(routes).map(([path, route]) => [path, tightened(route, limits)]));
  }
  for (const [name, limit] of Object.entries(limits)) tighten(policy, name, limit, USUAL[name]);
}

function tightened(route, limits) {
  if (!isPlain(route)) return route;
  const copy = { ...route };
  for (const [name, limit] of Object.entries(limits)) tighten(copy, name, limit, -Infinity);
  return copy;
}

/** The core's own values, where the policy says nothing. */
const USUAL = { maxMessageBytes: 65_536, maxFragments: 1024, closeTimeoutMs: 2000 };

/** Where a server with `port` listens, as the core writes it. */
function listenOf(policy, { port, host }) {
  if (host) return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
  const mayBePublic = ['tls', 'trustedProxies', 'dangerouslyAllowPlaintext'].some((name) => valueOf(policy, name));
  return mayBePublic ? `${everywhere()}:${port}` : `${LOCAL}:${port}`;
}

/** Every address, as Node chooses it: of both families where there are both. */
function everywhere() {
  const all = Object.values(networkInterfaces()).flat();
  return all.some(({ family }) => family === 'IPv6' || family === 6) ? '[::]' : '0.0.0.0';
}

/**
 * What a server needs of its options: the JSON for the core, the callback, whether on a route the first subprotocol that a client
 * offers is taken, whether TLS is the core's, whether the policy that was stated has compression, and whether a start goes beyond
 * this process.
 */
function readPolicy(options) {
  const given = stated(options);
  // A copy of it would have lost what it says.
  if (!isPlain(given)) return readOptions(given);
  const policy = { ...given };
  if (options.port === undefined || options.port === null) checkShared(policy);
  if (valueOf(policy, 'protocol') === undefined) policy.protocol = 'raw';
  if (asksApplication(policy) && policy.authenticate === undefined && options.verifyClient) policy.authenticate = anybody;
  const { maxPayload, maxFragments, closeTimeout } = options;
  tightenCompression(policy, options.perMessageDeflate);
  tightenAll(policy, { maxMessageBytes: maxPayload, maxFragments, closeTimeoutMs: closeTimeout });
  policy.listen = options.port === undefined || options.port === null ? `${LOCAL}:0` : listenOf(policy, options);
  const { json, authenticate } = readOptions(policy);
  const [isEncrypted, mayCompress] = [Boolean(policy.tls), hasCompression(given)];
  return { json, authenticate, chooses: choosing(policy), isEncrypted, mayCompress, reachesOut: reachesOut(policy) };
}

/** Tells of a route, or of null, whether the application chooses the subprotocol: the policy names none, and no token comes by one. */
function choosing(policy) {
  const chooses = (stated) => {
    const own = (name) => valueOf(stated, name) ?? valueOf(policy, name);
    return own('subprotocols') === undefined && !own('tokenSources')?.includes('subprotocol');
  };
  const byRoute = new Map(Object.entries(policy.routes ?? {}).map(([path, route]) => [path, chooses(route)]));
  const top = chooses(policy);
  return (route) => byRoute.get(route) ?? top;
}

/** Whether a start connects to Redis, fetches keys, or listens for who asks how it is. */
function reachesOut(policy) {
  const policies = [policy, ...Object.values(policy.routes ?? {})];
  const fetches = ({ auth }) => Boolean(auth?.jwt && valueOf(auth.jwt, 'jwksUrl'));
  return Boolean(policy.cluster || valueOf(policy, 'adminListen')) || policies.some(fetches);
}

/** TLS belongs to whoever accepts the connection. */
function checkShared(policy) {
  for (const name of ['tls', 'proxyProtocol']) {
    if (!valueOf(policy, name)) continue;
    throw failure('contradiction', `${name}: belongs to the HTTP server whose upgrades this one takes; it is for \`port\``, name);
  }
}

/** Whether the application says who somebody is, at the top or on a route. */
function asksApplication({ auth, routes }) {
  return auth === 'callback' || (isPlain(routes) && Object.values(routes).some((route) => route?.auth === 'callback'));
}

/** `auth: "callback"` without a function of the policy: `verifyClient` answers. */
function anybody() {
  return acceptAnonymous();
}

module.exports = { readPolicy };

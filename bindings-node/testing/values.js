'use strict';
// What handlers get, made by a test that calls them without a server.

const { UpgradeRequest } = require('../lib/authenticate.js');
const { Connection, internals } = require('../lib/connection.js');
const { checkNames } = require('../lib/errors.js');
const { Meta } = require('../lib/meta.js');

/** A request for `authenticate`. */
function makeRequest(given = {}) {
  checkNames(given, ['path', 'query', 'headers', 'ip', 'token', 'peerCertificate', 'route', 'params', 'id', 'reported'], 'makeRequest');
  const { path = '/', query = null, ip = '127.0.0.1', token = null, peerCertificate = null } = given;
  const headers = Object.entries(given.headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)]);
  const cookies = headers.filter(([name]) => name === 'cookie').flatMap(([, value]) => value.split(';').map(pairOf)).filter(Boolean);
  const hex = peerCertificate === null ? null : Buffer.from(peerCertificate).toString('hex');
  const { route = null, params = {}, id = '0', reported = false } = given;
  const told = { method: 'GET', path, query, headers, cookies, ip, token, peerCertificate: hex, route, params: Object.entries(params), id, reported };
  return new UpgradeRequest(told);
}

function pairOf(text) {
  const at = text.indexOf('=');
  return at < 0 ? undefined : [text.slice(0, at).trim(), text.slice(at + 1).trim()];
}

/** The meta of a message. */
function makeMeta(given = {}) {
  checkNames(given, ['event', 'id', 'status', 'sizeBytes'], 'makeMeta');
  const { event = 'event', id, status, sizeBytes = 0 } = given;
  return new Meta(event, id, status, sizeBytes);
}

/** How a connection ended, as `close` tells it. */
function makeClosing(given = {}) {
  checkNames(given, ['reason', 'clean', 'verdict'], 'makeClosing');
  const { reason = '', clean = true, verdict = null } = given;
  return { reason, clean, verdict };
}

let made = 0;

const FACTS = [
  'id', 'ip', 'user', 'path', 'subprotocol', 'roles', 'route', 'params', 'query', 'headers', 'cookies', 'origin', 'claims', 'port', 'tls',
  'openedAtMs', 'handshakeId', 'reported', 'compressed',
];

/**
 * A connection without a peer. Returns it, and `sent`: what is sent to it, in order. It checks its arguments as any other one does.
 */
function makeConnection(given = {}) {
  checkNames(given, [...FACTS, 'data', 'protocol'], 'makeConnection');
  made += 1;
  const sent = [];
  const isRaw = given.protocol === 'raw';
  let conn;
  const native = {
    join() {},
    leave() {},
    pause() {},
    isQueued: () => false,
    bufferedBytes: () => 0,
    ping: () => setImmediate(() => internals.setPonged(conn, 1)),
    terminate: () => internals.setClosed(conn, { code: 1006, ...makeClosing({ clean: false }) }),
    close(_low, _high, code, reason) {
      sent.push({ close: code, reason });
      internals.setClosed(conn, { code, ...makeClosing({ reason }) });
    },
  };
  const opened = openedOf(given);
  conn = new Connection({ outbox: recorder(sent), native, watchEnds() {} }, made, 0, opened, given.data, { isRaw });
  return { conn, sent };
}

/** The list of facts that `Opened` reads. */
function openedOf({ id = `test-${made}`, ip = '127.0.0.1', user = null, path = '/', subprotocol = null, roles = [], route = null, ...more }) {
  const { params = {}, query = null, headers = {}, cookies = {}, origin = null, claims = null, port = 50_000, tls = null } = more;
  const { openedAtMs = Date.now(), handshakeId = '0', reported = false, compressed = false } = more;
  const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]);
  const list = [id, ip, user, path, subprotocol, null, null, false, [...roles], route, Object.entries(params), query, lower];
  const rest = [origin, claims && JSON.stringify(claims), port, tls && { ...tls }, openedAtMs, handshakeId, reported, compressed];
  return [...list, Object.entries(cookies), ...rest];
}

/** An outbox that keeps what is sent. */
function recorder(sent) {
  const push = (message) => {
    sent.push(message);
    return 0;
  };
  return {
    turn: 0,
    quarter: Infinity,
    flush() {},
    binary: (_low, _high, data) => push(Buffer.from(data)),
    text: (_low, _high, text) => push(text),
    emit: (_low, _high, event, data) => push({ event, data: JSON.parse(data) }),
    reply: (_low, _high, id, event, data) => push({ event, data: JSON.parse(data), id: JSON.parse(id), status: 'ok' }),
    replyError: (_low, _high, id, event, data) => {
      push({ event, data: JSON.parse(data), status: 'error', ...(id === '' ? {} : { id: JSON.parse(id) }) });
      return 0;
    },
    request: (_low, _high, id, event, data) => push({ event, data: JSON.parse(data), id: JSON.parse(id) }),
    fail() {},
  };
}

module.exports = { makeClosing, makeConnection, makeMeta, makeRequest };

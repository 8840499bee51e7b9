'use strict';
// The application's authentication: what it is asked, and what it may answer.

const { inspect } = require('node:util');
const { failure } = require('./errors.js');

class Accept {
  constructor(user, data, expiresAtMs) {
    this.user = user;
    this.data = data;
    this.expiresAtMs = expiresAtMs;
  }
}

class Reject {
  constructor(status) {
    this.status = status;
  }
}

/** Lets a handshake in. */
function accept({ user, data, expiresAtMs } = {}) {
  if (user !== undefined && user !== null && typeof user !== 'string') {
    throw failure('invalid_argument', `user must be a string, got ${typeof user}`);
  }
  if (expiresAtMs !== undefined && expiresAtMs !== null && !Number.isFinite(expiresAtMs)) {
    throw failure('invalid_argument', 'expiresAtMs must be a number of milliseconds since the Unix epoch');
  }
  return new Accept(user ?? undefined, data, expiresAtMs ?? undefined);
}

/** Refuses a handshake. */
function reject(status = 401) {
  if (typeof status !== 'number') throw failure('invalid_argument', `status must be a number, got ${typeof status}`);
  return new Reject(status);
}

/** A handshake's request. It holds what the peer sent, credentials included. */
class UpgradeRequest {
  constructor({ method, path, query, headers, cookies, ip, token, peerCertificate }) {
    this.method = method;
    this.path = path;
    this.query = query ?? '';
    this.url = query === null ? path : `${path}?${query}`;
    this.ip = ip;
    this.token = token;
    this.rawHeaders = headers.flat();
    this.headers = joined(headers);
    this.cookies = firstOf(cookies);
    this.peerCertificate = peerCertificate === null ? null : Buffer.from(peerCertificate, 'hex');
  }

  /** The first header of this name, in any case. */
  get(name) {
    const wanted = name.toLowerCase();
    const at = this.rawHeaders.findIndex((word, index) => index % 2 === 0 && word === wanted);
    return at < 0 ? undefined : this.rawHeaders[at + 1];
  }

  /** Without credentials, for logs. */
  [inspect.custom](_depth, options) {
    return `UpgradeRequest ${inspect({ method: this.method, path: this.path, ip: this.ip }, options)}`;
  }

  toJSON() {
    return { method: this.method, path: this.path, ip: this.ip };
  }
}

/** Header fields as Node's `http` gives them: lower case, several of one name joined. */
function joined(headers) {
  const fields = Object.create(null);
  for (const [name, value] of headers) {
    const before = fields[name];
    fields[name] = before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return fields;
}

function firstOf(pairs) {
  const fields = Object.create(null);
  for (const [name, value] of pairs) fields[name] ??= value;
  return fields;
}

/** Asks `callback` and settles with exactly one answer; whatever goes wrong refuses. */
function ask(callback, request, settle, fail) {
  let answer;
  try {
    answer = callback(request);
  } catch (error) {
    return fail(error);
  }
  if (typeof answer?.then !== 'function') return decide(answer, settle, fail);
  answer.then((settled) => decide(settled, settle, fail), fail);
  return true;
}

function decide(answer, settle, fail) {
  if (answer instanceof Accept || answer instanceof Reject) settle(answer);
  else fail(failure('invalid_argument', 'authenticate must return accept({ user, … }) or reject(status)'));
}

module.exports = { Accept, Reject, UpgradeRequest, accept, ask, reject };

'use strict';
// The application's authentication: the request it gets, and the answers it may give.

const { AsyncResource } = require('node:async_hooks');
const { inspect } = require('node:util');
const { checkNames, failure } = require('./errors.js');
const { fieldsOf } = require('./opened.js');
const { kindOf, nameOf, textOf } = require('./text.js');

/** Answers are recognised by a symbol: another copy of this package (in a test runner's registry) has other classes. */
const ACCEPT = Symbol.for('wsguard.accept');
const REJECT = Symbol.for('wsguard.reject');

class Accept {
  constructor(user, { data, expiresAtMs, roles }) {
    this.user = user;
    this.data = data;
    this.expiresAtMs = endOf(expiresAtMs);
    if (roles !== undefined && roles !== null) this.roles = rolesOf(roles);
  }

  get [ACCEPT]() {
    return true;
  }
}

class Reject {
  constructor(status) {
    this.status = status;
  }

  get [REJECT]() {
    return true;
  }
}

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** What an answer may say beside the user. */
const SESSION = ['data', 'expiresAtMs', 'roles'];

/** Accepts a handshake as this user. */
function accept(session) {
  checkNames(session, ['user', ...SESSION], 'accept');
  const { user } = session;
  if (user === undefined || user === null) {
    const got = 'user' in session ? kindOf(user) : 'none';
    throw failure('invalid_argument', `accept needs a user, got ${got}; acceptAnonymous() accepts somebody without one`);
  }
  nameOf(user, 'user');
  if (CONTROL.test(user)) throw failure('invalid_argument', 'user must not have control characters');
  return Object.freeze(new Accept(user, session));
}

/** Accepts a handshake without a user: limits per user do not apply, and `disconnectUser` does not find it. */
function acceptAnonymous(session = {}) {
  if (session?.user !== undefined) throw failure('invalid_argument', 'acceptAnonymous takes no user; accept does');
  checkNames(session, SESSION, 'acceptAnonymous');
  return Object.freeze(new Accept(undefined, session));
}

function endOf(expiresAtMs) {
  if (expiresAtMs === undefined || expiresAtMs === null) return undefined;
  if (typeof expiresAtMs === 'number' && expiresAtMs >= 0 && expiresAtMs <= Number.MAX_SAFE_INTEGER) return expiresAtMs;
  const got = typeof expiresAtMs === 'number' ? expiresAtMs : kindOf(expiresAtMs);
  throw failure('invalid_argument', `expiresAtMs must be a number of milliseconds since the Unix epoch, got ${got}`);
}

/** Roles, which the core checks: an array of texts. */
function rolesOf(roles) {
  if (!Array.isArray(roles)) throw failure('invalid_argument', `roles must be an array of strings, got ${kindOf(roles)}`);
  return Object.freeze(roles.map((role, at) => textOf(role, `roles[${at}]`)));
}

/** Refuses a handshake. */
function reject(status = 401) {
  if (Number.isInteger(status) && status >= 300 && status <= 599) return Object.freeze(new Reject(status));
  const got = typeof status === 'number' ? status : kindOf(status);
  throw failure('invalid_argument', `status of a rejection must be 300 to 599, got ${got}`);
}

/** A handshake's request. It holds what the peer sent, credentials included. */
class UpgradeRequest {
  /** The fields as src/json.rs writes them. */
  constructor({ method, path, query, headers, cookies, ip, token, peerCertificate }) {
    this.method = method;
    this.path = path;
    this.query = query;
    this.url = query === null ? path : `${path}?${query}`;
    this.ip = ip;
    this.token = token;
    this.rawHeaders = headers.flat();
    this.headers = joined(headers);
    this.cookies = fieldsOf(cookies);
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

/** Calls `callback` in a context of its own and settles with exactly one answer. Any error refuses the handshake. */
function ask(callback, request, settle, fail) {
  let isSettled = false;
  const once = (act) => (value) => {
    if (isSettled) return;
    isSettled = true;
    act(value);
  };
  const [decided, failed] = [once((answer) => decide(answer, settle, fail)), once(fail)];
  return new AsyncResource('WSGUARDHANDSHAKE').runInAsyncScope(() => {
    try {
      const answer = callback(request);
      const then = answer?.then;
      if (typeof then !== 'function') return void decided(answer);
      new Promise((resolve, refuse) => then.call(answer, resolve, refuse)).then(decided, failed);
      return true;
    } catch (error) {
      failed(error);
      return undefined;
    }
  });
}

function decide(answer, settle, fail) {
  let problem;
  try {
    if (answer?.[ACCEPT] === true) return settle(true, answer);
    if (answer?.[REJECT] === true) return settle(false, answer);
  } catch (error) {
    problem = error;
  }
  fail(problem ?? failure('invalid_argument', 'authenticate must return accept({ user, … }), acceptAnonymous() or reject(status)'));
}

module.exports = { UpgradeRequest, accept, acceptAnonymous, ask, reject };

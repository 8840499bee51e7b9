'use strict';
// The application's authentication: the request it gets, and the answers it may give.

const { AsyncResource } = require('node:async_hooks');
const { inspect } = require('node:util');
const { newController } = require('./abort.js');
const { bytesOf } = require('./bytes.js');
const { checkNames, failure } = require('./errors.js');
const { fieldsOf, joined } = require('./opened.js');
const { kindOf, nameOf, textOf } = require('./text.js');

/** Answers are recognised by a symbol: another copy of this package (in a test runner's registry) has other classes. */
const ACCEPT = Symbol.for('wsguard.accept');
const REJECT = Symbol.for('wsguard.reject');

class Accept {
  constructor(user, { data, expiresAtMs, roles, subprotocol, headers }) {
    this.user = user;
    this.data = data;
    this.expiresAtMs = endOf(expiresAtMs);
    if (isGiven(roles)) this.roles = rolesOf(roles);
    if (isGiven(subprotocol)) this.subprotocol = textOf(subprotocol, 'subprotocol');
    if (isGiven(headers)) this.headers = headersOf(headers);
  }

  get [ACCEPT]() {
    return true;
  }
}

class Reject {
  constructor(status, { headers, body }) {
    this.status = status;
    if (isGiven(headers)) this.headers = headersOf(headers);
    if (isGiven(body)) this.body = bodyOf(body);
  }

  get [REJECT]() {
    return true;
  }
}

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

const MOST_HEADERS = 64;

/** What an answer may say beside the user. */
const SESSION = ['data', 'expiresAtMs', 'roles', 'subprotocol', 'headers'];

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
  return Object.freeze(Array.from(roles, (role, at) => textOf(role, `roles[${at}]`)));
}

function isGiven(value) {
  return value !== undefined && value !== null;
}

/**
 * Response headers as a list of name and value: an object (a list of values makes several headers), pairs, or Fetch's `Headers`. The
 * core checks what may stand there.
 */
function headersOf(headers) {
  if (typeof headers !== 'object' || headers === null) {
    throw failure('invalid_argument', `headers must be an object of values by name, got ${kindOf(headers)}`);
  }
  const pairs = [];
  // The core refuses so many as well; an iterator need not end.
  for (const pair of typeof headers[Symbol.iterator] === 'function' ? headers : Object.entries(headers)) {
    if (pairs.push(pair) > MOST_HEADERS) throw failure('invalid_argument', `headers must be at most ${MOST_HEADERS}`);
  }
  const listed = pairs.flatMap((pair) => {
    if (!Array.isArray(pair) || pair.length !== 2) throw failure('invalid_argument', 'headers must be an object, or pairs of name and value');
    const [name, value] = pair;
    textOf(name, 'the name of a header');
    return [value].flat().map((one) => [name, textOf(typeof one === 'number' ? String(one) : one, `the header ${name}`)]);
  });
  return Object.freeze(listed);
}

/** A body: text or bytes. */
function bodyOf(body) {
  return typeof body === 'string' ? Buffer.from(textOf(body, 'body')) : Buffer.from(bytesOf(body));
}

/** Refuses a handshake. */
function reject(status = 401, more = {}) {
  checkNames(more, ['headers', 'body'], 'reject');
  if (Number.isInteger(status) && status >= 300 && status <= 599) return Object.freeze(new Reject(status, more));
  const got = typeof status === 'number' ? status : kindOf(status);
  throw failure('invalid_argument', `status of a rejection must be 300 to 599, got ${got}`);
}

/** Aborts the signal of a request whose handshake is over. */
let setGone;

/** A handshake's request. It holds what the peer sent, credentials included. */
class UpgradeRequest {
  #controller;
  #reason;

  /** The fields as src/json.rs writes them. */
  constructor({ id, method, path, query, headers, cookies, ip, token, peerCertificate, route, params, reported }) {
    this.id = id;
    this.method = method;
    this.path = path;
    this.query = query;
    this.url = query === null ? path : `${path}?${query}`;
    this.ip = ip;
    this.token = token;
    this.rawHeaders = headers.flat();
    this.headers = joined(headers);
    this.cookies = fieldsOf(cookies);
    this.route = route;
    this.params = fieldsOf(params);
    this.reported = reported;
    this.peerCertificate = peerCertificate === null ? null : Buffer.from(peerCertificate, 'hex');
  }

  /** The first header of this name, in any case. */
  get(name) {
    const wanted = name.toLowerCase();
    const at = this.rawHeaders.findIndex((word, index) => index % 2 === 0 && word === wanted);
    return at < 0 ? undefined : this.rawHeaders[at + 1];
  }

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = newController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Without credentials, for logs. */
  [inspect.custom](_depth, options) {
    return `UpgradeRequest ${inspect({ method: this.method, path: this.path, ip: this.ip }, options)}`;
  }

  toJSON() {
    return { method: this.method, path: this.path, ip: this.ip };
  }

  static {
    setGone = (request) => {
      request.#reason = failure('handshake_gone', 'the handshake is over: the peer has left, or its time is over');
      request.#controller?.abort(request.#reason);
    };
  }
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

module.exports = { UpgradeRequest, accept, acceptAnonymous, ask, reject, setGone };

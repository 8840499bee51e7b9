// The client: one WebSocket at a time, made anew when it ends as long as that may help; on it the envelope.

import { ClientError } from './error.js';
import { addressOf, optionsOf, wrong } from './options.js';
import { expiryOf, opening } from './token.js';
import { isWorthAnother, retryAfterMs } from './verdict.js';

export { ClientError };

/** Begins the ids of our requests, so that an answer which comes too late is not taken for a request of the server. */
const OURS = '~';
/** The listeners of the state, among those of events; no event of the server is this object. */
const STATE = {};
/** A connection that held so long has proved that the server is well: the next wait is short again. */
const STABLE_MS = 10e3;
/** After so many failures in a row, without a connection that held, the waits grow up to this. */
const QUICK_FAILURES = 8;
const SLOW_DELAY_MS = 3e5;
/** A connection that broke without a word, or never was. */
const BROKEN = { code: 1006, reason: '' };

/** A timer. One beyond 2^31 milliseconds would fire at once. */
const later = (act, ms) => setTimeout(act, Math.min(ms, 2e9));

const encode = (message) => {
  if (typeof message.event != 'string') wrong('event: must be a string');
  return JSON.stringify(message);
};

export const connect = (url, given = {}) => {
  const options = optionsOf(given);
  const address = addressOf(url);
  const Socket = options.WebSocket ?? globalThis.WebSocket ?? wrong('WebSocket: none here');
  const { token, signal, probe, minDelayMs, onError } = options;
  const outside = new AbortController();
  const listeners = new Map();
  const handlers = new Map();
  /** By id. An item has `text`, `event`, `fail(error)`, a request also `done(data)`; while it is queued, `size` in bytes. */
  const requests = new Map();
  let queue = [];
  let queuedBytes = 0;
  let lastId = 0;
  let state = 'connecting';
  /** The attempt or connection of now: what comes from an earlier one is not heeded. */
  let current;
  let socket;
  /** The one timer of the connection: of an attempt, of the wait for the next, or of the token's renewal. */
  let timer;
  let openedAt;
  let failures = 0;
  /** When the server wants to hear of us again. */
  let notBefore = 0;
  let isWaiting;
  /** The last token was refused, or may have been. */
  let isStale = false;
  /** A renewed token, for the next attempt. */
  let renewed;
  let expiresAtMs;
  /** Nothing more is sent: a connection with the renewed token follows when the answers have come. */
  let isLeaving;
  let resolveClosed;
  const closed = new Promise((resolve) => (resolveClosed = resolve));

  const report = (error) => {
    try {
      onError(error);
    } catch {}
  };

  // --- the application's functions: what they throw or reject with is reported, and goes no further

  const call = async (act, ...values) => act(...values);

  const tell = (event, ...values) => {
    for (const [listener, isOnce] of [...(listeners.get(event) ?? [])]) {
      if (isOnce) off(event, listener);
      call(listener, ...values).catch(report);
    }
  };

  const listen = (event, listener, isOnce) => {
    listener?.call ?? wrong('listener: must be a function');
    if (!listeners.has(event)) listeners.set(event, new Map());
    listeners.get(event).set(listener, isOnce);
    return () => off(event, listener);
  };

  const off = (event, listener) => {
    listeners.get(event)?.delete(listener);
  };

  /** What `token` gives; null for none, undefined where it failed, which is reported. */
  const askToken = async () => {
    try {
      return (await (typeof token == 'function' ? token(isStale) : token)) ?? null;
    } catch (cause) {
      report(new ClientError('token_failed', { cause }));
    }
  };

  // --- the connection

  const isReady = () => state == 'open' && !isLeaving && socket?.readyState == 1;

  const arm = (act, ms) => {
    clearTimeout(timer);
    timer = later(act, ms);
  };

  const wait = (ms) => {
    isWaiting = true;
    arm(open, ms);
  };

  /** Leaves the socket, if there is one: what was sent on it is answered no more. */
  const drop = (code, reason) => {
    const left = socket;
    clearTimeout(timer);
    current = socket = openedAt = isLeaving = isWaiting = undefined;
    left?.close(code, reason);
    failAll('connection_lost', (item) => !item.size);
  };

  const finish = (info) => {
    if (state == 'closed') return;
    state = 'closed';
    outside.abort();
    drop(1000);
    info = { ...info, unsent: queue.length };
    failAll('closed', () => true);
    queue = [];
    tell(STATE, state, info);
    resolveClosed(info);
  };

  const restart = (info, delayMs = 0) => {
    if (state == 'closed') return;
    drop(1000);
    wait(delayMs);
    tell(STATE, (state = 'reconnecting'), { ...info, delayMs });
  };

  const open = async () => {
    const mine = (current = {});
    isWaiting = false;
    arm(() => fail(), options.openTimeoutMs);
    const given = renewed ?? (await askToken());
    if (current != mine) return;
    renewed = undefined;
    if (given === undefined) return fail();
    expiresAtMs = expiryOf(given);
    try {
      create(mine, ...opening(address, options, given));
    } catch {
      // WebSocket refuses the url, a protocol, a header or the token, and its own words would show them.
      finish({ ...BROKEN, error: new ClientError('bad_argument') });
    }
  };

  const create = (mine, url, protocols, headers) => {
    // `ws` takes headers third, the WebSocket of Node in an object; that of a browser takes none.
    socket = new Socket(url, headers && !options.WebSocket ? { protocols, headers } : protocols, { headers });
    socket.onopen = () => current == mine && opened();
    socket.onmessage = ({ data }) => current == mine && heard(data);
    // Nothing says why. Not every WebSocket follows it with a close where there was no connection.
    socket.onerror = () => openedAt || ended(mine, BROKEN);
    socket.onclose = ({ code, reason }) => ended(mine, { code, reason });
    // Of `ws` alone: what a refusal says.
    socket.on?.('unexpected-response', (_, { statusCode, headers }) =>
      ended(mine, { ...BROKEN, status: statusCode }, headers['retry-after']),
    );
  };

  const opened = () => {
    clearTimeout(timer);
    openedAt = Date.now();
    notBefore = 0;
    const life = expiresAtMs - openedAt;
    // Spread, so that those who came together do not ask for their tokens together. A clock that is wrong renews nothing.
    if (life > 0 && typeof token == 'function') {
      arm(renew, Math.max(life - options.refreshBeforeMs, life / 2) * (1 - Math.random() / 10));
    }
    tell(STATE, (state = 'open'), {});
    // After the listeners: they join again what the queued messages need.
    while (queue[0] && isReady()) {
      const [item] = queue;
      take(item);
      socket.send(item.text);
    }
  };

  const renew = async () => {
    const mine = current;
    isStale = true;
    const given = await askToken();
    if (current == mine && expiryOf(given) > expiresAtMs) {
      renewed = given;
      isLeaving = true;
      settled();
    }
  };

  const settled = () => {
    if (isLeaving && [...requests.values()].every((item) => item.size)) restart({ code: 1000, reason: 'token renewed' });
  };

  const ended = async (mine, info, retryAfter = /retry.after\D*(\d+)/i.exec(info.reason)?.[1]) => {
    if (current != mine) return;
    // Nothing of this socket counts any more; the timer of the attempt bounds the probe.
    const probing = (current = {});
    if (probe && !openedAt && !info.status) {
      try {
        retryAfter = (await probe(address.replace(/^ws/, 'http'))).headers.get('retry-after');
      } catch {}
    }
    if (current == probing) fail(info, retryAfterMs(retryAfter));
  };

  const fail = async (close = BROKEN, holdMs = 0) => {
    const now = Date.now();
    const wasOpen = openedAt;
    drop(1000);
    const judging = (current = {});
    if (now - wasOpen >= STABLE_MS) failures = 0;
    const info = { ...close, failures: ++failures };
    const isWanted = (await call(() => options.retry?.(info)).catch(report)) ?? isWorthAnother(info, typeof token == 'function' && !isStale);
    if (current != judging) return;
    if (!isWanted) return finish(info);
    isStale = !wasOpen || info.reason == 'session expired';
    notBefore = now + holdMs;
    const longest = failures > QUICK_FAILURES ? SLOW_DELAY_MS : options.maxDelayMs;
    restart(info, holdMs + Math.random() * Math.min(longest, minDelayMs * 2 ** (failures - 1)));
  };

  /** The network is back, or the page is looked at: once per wait, and not before the server wants to hear of us. */
  const wake = () => {
    if (!isWaiting || globalThis.document?.visibilityState == 'hidden') return;
    wait(Math.max(notBefore - Date.now(), 0) + Math.random() * minDelayMs);
    isWaiting = false;
  };

  // --- the envelope

  const heard = (text) => {
    let message;
    try {
      if (typeof text != 'string' || text.length > options.maxMessageLength) throw 0;
      message = JSON.parse(text);
      if (typeof message.event != 'string' || /object|boolean/.test(typeof message.id)) throw 0;
    } catch {
      // Without a cause: the parser quotes what it read.
      return report(new ClientError('bad_message'));
    }
    const { event, data = null, id, status } = message;
    const request = requests.get(id);
    // The error of an answer, or of what was emitted; listeners get what their type says.
    const error = status === 'error' && new ClientError('rejected', { event, data });
    if (request && !request.size) return error ? request.fail(error) : request.done(data);
    if (id?.startsWith?.(OURS)) return;
    if (error) return report(error);
    const handler = id !== undefined && handlers.get(event);
    if (handler) serve(handler, data, { event, id }).catch(report);
    else tell(event, data, { event, id });
  };

  const serve = async (handler, data, meta) => {
    const mine = current;
    let text;
    try {
      text = encode({ ...meta, status: 'ok', data: await handler(data, meta) });
    } catch (error) {
      report(error);
      text = encode({ ...meta, status: 'error', data: error?.data ?? { code: 'failed' } });
    }
    // An id means nothing on the next connection.
    if (current == mine && socket.readyState == 1) socket.send(text);
  };

  // --- what is sent, and what waits

  const failAll = (code, isMeant) => {
    for (const item of [...requests.values()].filter(isMeant)) item.fail(new ClientError(code, { event: item.event }));
  };

  const take = (item) => {
    if (!item.size) return;
    queue = queue.filter((other) => other != item);
    queuedBytes -= item.size;
    item.size = 0;
  };

  const send = (item) => {
    if (state == 'closed') return 'refused';
    if (isReady()) {
      socket.send(item.text);
      return 'sent';
    }
    queue.push(item);
    queuedBytes += item.size = new Blob([item.text]).size;
    // The oldest goes, told why: the newest is what the user just did.
    while (queue.length > options.maxQueuedMessages || queuedBytes > options.maxQueuedBytes) {
      const [oldest] = queue;
      take(oldest);
      oldest.fail(new ClientError('queue_full', { event: oldest.event }));
    }
    return item.size ? 'queued' : 'refused';
  };

  const request = (event, data, { timeoutMs = options.requestTimeoutMs, signal } = {}) => {
    const promise = new Promise((resolve, reject) => {
      const id = OURS + ++lastId;
      const item = { text: encode({ event, data, id }), event };
      const settle = (how) => (value) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        requests.delete(id);
        take(item);
        how(value);
        settled();
      };
      const abort = () => item.fail(signal.reason);
      item.done = settle(resolve);
      item.fail = settle(reject);
      const timer = later(() => item.fail(new ClientError('timeout', { event })), timeoutMs);
      requests.set(id, item);
      signal?.addEventListener('abort', abort);
      if (signal?.aborted) abort();
      else if (send(item) == 'refused') item.fail(new ClientError('closed', { event }));
    });
    // Whoever awaits it hears of it; of a request that nobody awaits, a lost network must not end the process.
    promise.catch(() => {});
    return promise;
  };

  const heed = (target, name, act) => target?.addEventListener?.(name, act, { signal: outside.signal });
  const abort = () => finish({ code: 1000, reason: 'aborted' });
  heed(globalThis, 'online', wake);
  heed(globalThis.document, 'visibilitychange', wake);
  heed(signal, 'abort', abort);
  if (signal?.aborted) abort();
  else open();

  return {
    get state() {
      return state;
    },
    closed,
    emit: (event, data) => send({ text: encode({ event, data }), event, fail: report }),
    request,
    on: listen,
    once: (event, listener) => listen(event, listener, true),
    off,
    onState: (listener) => listen(STATE, listener),
    handle: (event, handler) => {
      handlers.set(event, handler);
    },
    reconnect: () => restart({ code: 1000, reason: 'reconnect' }),
    close: (code = 1000, reason = '') => {
      // What may not be said throws, and nothing has happened.
      socket?.close(code, reason);
      finish({ code, reason });
    },
  };
};

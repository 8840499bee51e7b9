'use strict';
// Who hears what. The emitter's own tables are asked once; after that a message costs an array access.

const { EventEmitter } = require('node:events');
const { didYouMean, failure } = require('./errors.js');

/** Names with a meaning of their own; an event of the contract that is called so is reached by `onEvent`. */
const LIFECYCLE = ['open', 'close', 'message', 'event', 'violation', 'drained', 'error', 'stopped'];
const OWN = new Set([...LIFECYCLE, 'newListener', 'removeListener']);
/** What those who come from `ws`, Socket.IO or `http` look for. */
const HABITS = {
  connection: '`open` tells of connections here',
  connect: '`open` tells of connections here',
  disconnect: '`close` tells of their end here',
  disconnecting: '`close` tells of their end here',
  data: 'messages come to `message` (protocol: "raw"), or by the names of `events`',
  listening: 'await listen()',
  drain: '`drained` tells of a connection that has read everything',
  end: '`stopped` tells of the end of the server',
};

const NOBODY = [];

class Listeners {
  #server;
  /** The events of the contract. */
  #events;
  #isRaw;
  /** The emitter's names for events of the contract that are called like events of the server. */
  #keys = new Map();
  #byName = new Map();
  #byNumber = [];
  #ofMessage;
  #ofAny;

  constructor(server, events, isRaw) {
    this.#server = server;
    this.#events = new Set(events);
    this.#isRaw = isRaw;
    for (const event of events) this.#keys.set(event, OWN.has(event) ? Symbol(event) : event);
  }

  /** The emitter's name for an event of the contract. */
  keyOf(event) {
    const key = this.#keys.get(event);
    if (key !== undefined) return key;
    if (typeof event !== 'string') throw failure('invalid_argument', `the event must be a string, got ${typeof event}`);
    throw this.#unknown(event, 'no event of the contract', [...this.#events]);
  }

  /** Refuses to listen to what never comes. */
  check(name) {
    if (typeof name === 'symbol') return;
    if (typeof name !== 'string') throw failure('invalid_argument', `the event must be a string, got ${typeof name}`);
    if (this.#isRaw && name === 'event') throw failure('invalid_argument', '`event` is of protocol: "json"; here it is `message`');
    if (!this.#isRaw && name === 'message') {
      throw failure('invalid_argument', '`message` is of protocol: "raw"; here each event of `events` has its name, and `event` hears all');
    }
    if (OWN.has(name) || this.#events.has(name)) return;
    throw this.#unknown(name, "neither an event of the server's nor of `events`", [...LIFECYCLE, ...this.#events]);
  }

  /** Refuses to tell listeners of what only the server can. */
  checkEmit(name) {
    if (typeof name === 'symbol' || OWN.has(name)) return;
    throw failure(
      'invalid_argument',
      `emit calls listeners of the server, and \`${String(name)}\` has none; to send it: server.toAll().emit or server.to(room).emit`,
    );
  }

  #unknown(name, what, known) {
    const hint = Object.hasOwn(HABITS, name) ? `; ${HABITS[name]}` : didYouMean(name, known);
    return failure('invalid_argument', `\`${name}\` is ${what}${hint}`);
  }

  of(name) {
    let found = this.#byName.get(name);
    if (found === undefined) {
      found = EventEmitter.prototype.rawListeners.call(this.#server, name);
      this.#byName.set(name, found);
    }
    return found;
  }

  /** Those of `message`, which is asked for most. */
  get ofMessage() {
    return (this.#ofMessage ??= this.of('message'));
  }

  /** Those of `event`, which hear of every event. */
  get ofAny() {
    return (this.#ofAny ??= this.of('event'));
  }

  ofEvent(number, events) {
    const event = events[number];
    return event === undefined ? NOBODY : (this.#byNumber[number] ??= this.of(this.#keys.get(event)));
  }

  /** The tables have changed. */
  forget() {
    this.#byName.clear();
    this.#byNumber = [];
    this.#ofMessage = undefined;
    this.#ofAny = undefined;
  }
}

module.exports = { Listeners };

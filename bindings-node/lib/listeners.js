'use strict';
// The listeners of each event. The emitter is asked once; after that a message costs an array access.

const { EventEmitter } = require('node:events');
const { didYouMean, failure } = require('./errors.js');

/** The server's own events; `onEvent` listens for an event of the contract with such a name. */
const LIFECYCLE = ['open', 'close', 'message', 'event', 'violation', 'drained', 'error', 'stopped'];
const OWN = new Set([...LIFECYCLE, 'newListener', 'removeListener']);
/** Events of `ws`, Socket.IO and `http`, and what to use instead. */
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

const NO_LISTENERS = [];

class Listeners {
  #server;
  #contract;
  /** The emitter's names for events of the contract that are called like events of the server. */
  #keys = new Map();
  #byName = new Map();
  #byNumber = [];
  #ofMessage;
  #ofAny;

  constructor(server, contract) {
    this.#server = server;
    this.#contract = contract;
    this.learn();
  }

  /** Takes in the events that the contract has got. */
  learn() {
    for (const event of this.#contract.events) {
      if (!this.#keys.has(event)) this.#keys.set(event, OWN.has(event) ? Symbol(event) : event);
    }
  }

  /** The emitter's name for an event of the contract. */
  keyOf(event) {
    const key = this.#keys.get(event);
    if (key !== undefined) return key;
    if (typeof event !== 'string') throw failure('invalid_argument', `the event must be a string, got ${typeof event}`);
    throw this.#unknown(event, 'no event of the contract', this.#contract.events);
  }

  /** Throws for an event that never comes. */
  check(name) {
    if (typeof name === 'symbol') return;
    if (typeof name !== 'string') throw failure('invalid_argument', `the event must be a string, got ${typeof name}`);
    if (!this.#contract.hasJson && name === 'event') throw failure('invalid_argument', '`event` is of protocol: "json"; here it is `message`');
    if (!this.#contract.hasRaw && name === 'message') {
      throw failure('invalid_argument', '`message` is of protocol: "raw"; here each event of `events` has its name, and `event` hears all');
    }
    if (OWN.has(name) || this.#keys.has(name)) return;
    throw this.#unknown(name, "neither an event of the server's nor of `events`", [...LIFECYCLE, ...this.#contract.events]);
  }

  /** Throws for an event of the contract: `emit` of the server would send nothing. */
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

  /** The listeners of `message`, which is asked for most. */
  get ofMessage() {
    return (this.#ofMessage ??= this.of('message'));
  }

  /** The listeners of `event`, which get every event. */
  get ofAny() {
    return (this.#ofAny ??= this.of('event'));
  }

  ofEvent(number, events) {
    const event = events[number];
    return event === undefined ? NO_LISTENERS : (this.#byNumber[number] ??= this.of(this.#keys.get(event)));
  }

  /** Called when listeners were added or removed. */
  forget() {
    this.#byName.clear();
    this.#byNumber = [];
    this.#ofMessage = undefined;
    this.#ofAny = undefined;
  }
}

module.exports = { Listeners };

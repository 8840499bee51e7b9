'use strict';
// Who hears what. The emitter's own tables are asked once; after that a message costs an array access.

const { EventEmitter } = require('node:events');

/** Names with a meaning of their own; an event of the contract that is called so is reached by `onEvent`. */
const OWN = new Set(['open', 'close', 'message', 'event', 'violation', 'drained', 'error', 'stopped', 'newListener', 'removeListener']);

const NOBODY = [];

class Listeners {
  #server;
  #byName = new Map();
  #byNumber = [];
  #ofMessage;
  #ofAny;

  constructor(server) {
    this.#server = server;
  }

  /** The emitter's name for an event of the contract. */
  keyOf(event) {
    return OWN.has(event) ? `event:${event}` : event;
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
    return event === undefined ? NOBODY : (this.#byNumber[number] ??= this.of(this.keyOf(event)));
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

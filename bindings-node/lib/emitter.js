'use strict';
// The server as Node's EventEmitter: throws for names of events that never come, and reports changes of listeners.

const { EventEmitter } = require('node:events');
const { Listeners } = require('./listeners.js');

/** The listeners of an emitter, by kind. */
let listenersOf;

class Emitter extends EventEmitter {
  #listeners;
  #onChange;

  /** `onChange` is called when listeners were added or removed. */
  constructor(contract, onChange) {
    super();
    this.#listeners = new Listeners(this, contract);
    this.#onChange = onChange;
  }

  onEvent(event, listener) {
    return this.on(this.#listeners.keyOf(event), listener);
  }

  offEvent(event, listener) {
    return this.off(this.#listeners.keyOf(event), listener);
  }

  /** Tells listeners of the server's own events. Nothing is sent: that is `toAll().emit`, `to(room).emit`, `conn.emit`. */
  emit(name, ...values) {
    this.#listeners.checkEmit(name);
    return super.emit(name, ...values);
  }

  addListener(name, listener) {
    this.#listeners.check(name);
    super.addListener(name, listener);
    return this.#changed();
  }

  prependListener(name, listener) {
    this.#listeners.check(name);
    super.prependListener(name, listener);
    return this.#changed();
  }

  on(name, listener) {
    this.#listeners.check(name);
    super.on(name, listener);
    return this.#changed();
  }

  removeListener(name, listener) {
    super.removeListener(name, listener);
    return this.#changed();
  }

  off(name, listener) {
    super.off(name, listener);
    return this.#changed();
  }

  removeAllListeners(...names) {
    super.removeAllListeners(...names);
    return this.#changed();
  }

  #changed() {
    this.#listeners.forget();
    this.#onChange();
    return this;
  }

  static {
    listenersOf = (emitter) => emitter.#listeners;
  }
}

module.exports = { Emitter, listenersOf };

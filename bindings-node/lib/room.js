'use strict';
// Whom a message goes to when it is more than one.

const { failure } = require('./errors.js');
const { bytesOf, jsonOf, textOf } = require('./connection.js');

/** A room, or every connection; perhaps without one. */
class Audience {
  #outbox;
  #room;
  #except;

  /** @internal */
  constructor(outbox, room, except) {
    this.#outbox = outbox;
    this.#room = room;
    this.#except = except;
  }

  emit(event, data) {
    this.#outbox.broadcast(this.#except, this.#room, textOf(event, 'event'), jsonOf(data));
  }

  send(data) {
    if (typeof data === 'string') this.#outbox.broadcastText(this.#except, this.#room, data);
    else this.#outbox.broadcastBinary(this.#except, this.#room, bytesOf(data));
  }

  except(conn) {
    return new Audience(this.#outbox, this.#room, conn);
  }
}

/** The audience of a room; `undefined`: everybody. */
function audience(outbox, room) {
  if (outbox === undefined) throw failure('not_started', 'the server was not started: listen() or attach() first');
  return new Audience(outbox, room, undefined);
}

module.exports = { audience };

'use strict';
// Sends to many connections: a room, or all of them.

const { failure } = require('./errors.js');
const { bytesOf, lengthOf } = require('./bytes.js');
const { EMIT, SEND, internals } = require('./connection.js');
const { checkEmits, checkSends } = require('./protocol.js');
const { checkCount, eventOf, jsonOf, kindOf, nameOf } = require('./text.js');

/** A room, or every connection; perhaps without some. */
class Audience {
  #outbox;
  #room;
  /** The words of the ids of those that are left out, two each. */
  #except;

  /** @internal `room`: undefined for everybody. */
  constructor(outbox, room, except) {
    this.#outbox = outbox;
    this.#room = room;
    this.#except = except;
  }

  emit(event, data) {
    checkCount(arguments.length, 2, EMIT);
    checkEmits(this.#outbox.contract.hasJson);
    const text = jsonOf(data);
    eventOf(event);
    this.#outbox.broadcast(this.#except, this.#room, event, text);
  }

  send(data) {
    checkCount(arguments.length, 1, SEND);
    checkSends(this.#outbox.contract.hasRaw);
    if (typeof data === 'string') return this.#outbox.broadcastText(this.#except, this.#room, data);
    const bytes = bytesOf(data);
    this.#outbox.broadcastBinary(this.#except, this.#room, bytes, lengthOf(bytes));
  }

  except(...conns) {
    if (conns.length === 0) throw failure('invalid_argument', 'except takes the connection to leave out');
    const except = [...this.#except];
    for (const conn of conns) {
      if (!internals.belongsTo(conn, this.#outbox)) throw this.#stranger(conn);
      except.push(...internals.idWords(conn));
    }
    return new Audience(this.#outbox, this.#room, except);
  }

  #stranger(conn) {
    const got = internals.isConnection(conn) ? 'one of another server' : kindOf(conn);
    return failure('invalid_argument', `except takes connections of this server, got ${got}`);
  }
}

const NO_ONE = [];

/** The audience of a room. */
function members(outbox, room) {
  return new Audience(started(outbox), nameOf(room, 'room'), NO_ONE);
}

/** Every connection. */
function everybody(outbox) {
  return new Audience(started(outbox), undefined, NO_ONE);
}

function started(outbox) {
  if (outbox === undefined) throw failure('not_started', 'the server was not started: listen() or attach() first');
  return outbox;
}

module.exports = { everybody, members };

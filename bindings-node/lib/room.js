'use strict';
// Whom a message goes to when it is more than one.

const { failure } = require('./errors.js');
const { bytesOf } = require('./bytes.js');
const { EMIT, SEND, internals } = require('./connection.js');
const { checkCount, eventOf, jsonOf, kindOf, nameOf } = require('./text.js');

/** A room, or every connection; perhaps without some. */
class Audience {
  #outbox;
  #connections;
  #room;
  #except;

  /** @internal `connections` lists every open connection. `room`: undefined for everybody. */
  constructor(outbox, connections, room, except) {
    this.#outbox = outbox;
    this.#connections = connections;
    this.#room = room;
    this.#except = except;
  }

  emit(event, data) {
    checkCount(arguments.length, 2, EMIT);
    const text = jsonOf(data);
    eventOf(event);
    if (this.#isFew()) this.#outbox.broadcast(this.#one(), this.#room, event, text);
    else for (const [low, high] of this.#others()) this.#outbox.emit(low, high, event, text);
  }

  send(data) {
    checkCount(arguments.length, 1, SEND);
    if (typeof data === 'string') {
      if (this.#isFew()) this.#outbox.broadcastText(this.#one(), this.#room, data);
      else for (const [low, high] of this.#others()) this.#outbox.text(low, high, data);
      return;
    }
    const bytes = bytesOf(data);
    if (this.#isFew()) this.#outbox.broadcastBinary(this.#one(), this.#room, bytes);
    else for (const [low, high] of this.#others()) this.#outbox.binary(low, high, bytes);
  }

  except(...conns) {
    if (conns.length === 0) throw failure('invalid_argument', 'except takes the connection to leave out');
    for (const conn of conns) {
      if (internals.belongsTo(conn, this.#outbox)) continue;
      const got = internals.isConnection(conn) ? 'one of another server' : kindOf(conn);
      throw failure('invalid_argument', `except takes connections of this server, got ${got}`);
    }
    return new Audience(this.#outbox, this.#connections, this.#room, new Set([...this.#except, ...conns]));
  }

  /** The core leaves one out. */
  #isFew() {
    return this.#except.size <= 1;
  }

  #one() {
    const [one] = this.#except;
    return one === undefined ? undefined : internals.halves(one);
  }

  /** Where more are left out, each of the others is told. */
  #others() {
    const others = [];
    for (const conn of this.#connections()) {
      if (internals.isIn(conn, this.#room) && !this.#except.has(conn)) others.push(internals.halves(conn));
    }
    return others;
  }
}

const NOBODY = new Set();

/** The audience of a room. */
function members(outbox, connections, room) {
  return new Audience(started(outbox), connections, nameOf(room, 'room'), NOBODY);
}

/** Every connection. */
function everybody(outbox, connections) {
  return new Audience(started(outbox), connections, undefined, NOBODY);
}

function started(outbox) {
  if (outbox === undefined) throw failure('not_started', 'the server was not started: listen() or attach() first');
  return outbox;
}

module.exports = { everybody, members };

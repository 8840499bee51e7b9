'use strict';
// Sends to many connections: rooms, a user's connections, or all; and says which they are.

const { checkNames, failure, native } = require('./errors.js');
const { bytesOf, lengthOf } = require('./bytes.js');
const { EMIT, SEND, internals } = require('./connection.js');
const { checkClose } = require('./ending.js');
const { plainOf } = require('./plain.js');
const { checkEmits, checkSends } = require('./protocol.js');
const { checkCount, durationOf, eventOf, jsonOf, kindOf, nameOf } = require('./text.js');

class Audience {
  #home;
  /** `{ rooms }`, `{ user }`, or `{}` for everybody. */
  #to;
  #except;
  /** The words of the ids of those that are left out, two each. */
  #words;

  /** @internal `home`: outbox, native, and `inbox`. */
  constructor(home, to, except) {
    this.#home = home;
    this.#to = to;
    this.#except = except;
    this.#words = except.flatMap((conn) => internals.idWords(conn));
  }

  emit(event, data, options) {
    checkCount(arguments.length, 3, EMIT);
    const plain = plainOf(options, EMIT);
    const { outbox } = this.#home;
    checkEmits(outbox.contract.hasJson);
    const text = jsonOf(data);
    eventOf(event);
    outbox.broadcast(this.#words, this.#to, event, text, plain);
  }

  send(data, options) {
    checkCount(arguments.length, 2, SEND);
    const plain = plainOf(options, SEND);
    const { outbox } = this.#home;
    checkSends(outbox.contract.hasRaw);
    if (typeof data === 'string') return outbox.broadcastText(this.#words, this.#to, data, plain);
    const bytes = bytesOf(data);
    outbox.broadcastBinary(this.#words, this.#to, bytes, lengthOf(bytes), plain);
  }

  except(...conns) {
    if (conns.length === 0) throw failure('invalid_argument', 'except takes the connection to leave out');
    for (const conn of conns) if (!internals.belongsTo(conn, this.#home.outbox)) throw stranger(conn);
    return new Audience(this.#home, this.#to, [...this.#except, ...conns]);
  }

  members() {
    const found = [];
    this.#each((conn) => found.push(conn));
    return found;
  }

  get size() {
    let count = 0;
    this.#each(() => (count += 1));
    return count;
  }

  async everywhere(options = {}) {
    checkNames(options, ['timeoutMs'], 'everywhere');
    const { timeoutMs = 1000 } = options;
    durationOf(timeoutMs, 'timeoutMs');
    // Joins are carried out at once, behind what was sent before.
    this.#home.outbox.flush();
    return this.#home.counts.ask(this.#to, this.#words, timeoutMs);
  }

  clear() {
    const { rooms } = this.#to;
    if (rooms === undefined) throw failure('invalid_argument', 'clear empties rooms: server.to(room).clear()');
    for (const conn of this.members()) for (const room of rooms) conn.leave(room);
    // Those of other nodes; here nobody is left but who has joined meanwhile.
    native(() => this.#home.native.clearRooms(rooms, this.#words));
  }

  close(code = 1000, reason = '') {
    checkClose(code, reason);
    for (const conn of this.members()) conn.close(code, reason);
    const { native: core, outbox } = this.#home;
    outbox.flush();
    native(() => core.closeElsewhere(this.#to.rooms ?? null, this.#to.user ?? null, code, reason));
  }

  /** Calls a function, which must not call the application, for each open connection once: a loop, as there may be 100 000. */
  #each(call) {
    const { inbox, outbox, native: core } = this.#home;
    const { rooms, user } = this.#to;
    // Only what was seen, or is left out, must be known: most audiences are of one room.
    const seen = new Set(this.#except);
    const see = (conn) => {
      if (conn === undefined || !internals.isLive(conn) || (seen.size > 0 && seen.has(conn))) return;
      if (rooms?.length > 1) seen.add(conn);
      call(conn);
    };
    if (user !== undefined) {
      for (const conn of inbox.ofUser(user)) see(conn);
      return;
    }
    if (rooms === undefined) {
      inbox.announceAll();
      for (const conn of inbox.known()) see(conn);
      return;
    }
    // Joins are carried out at once, behind what was sent before.
    outbox.flush();
    for (const room of rooms) for (const place of native(() => core.roomMembers(room))) see(inbox.connection(place));
  }
}

function stranger(conn) {
  const got = internals.isConnection(conn) ? 'one of another server' : kindOf(conn);
  return failure('invalid_argument', `except takes connections of this server, got ${got}`);
}

/** The members of rooms. */
function members(home, rooms) {
  if (rooms.length === 0) throw failure('invalid_argument', 'to takes a room, or several');
  return new Audience(started(home), { rooms: rooms.map((room) => nameOf(room, 'room')) }, []);
}

/** The connections of a user. */
function ofUser(home, user) {
  return new Audience(started(home), { user: nameOf(user, 'user') }, []);
}

/** Every connection. */
function everybody(home) {
  return new Audience(started(home), {}, []);
}

function started(home) {
  if (home === undefined) throw failure('not_started', 'the server was not started: listen() or attach() first');
  return home;
}

module.exports = { everybody, members, ofUser };

'use strict';
// Gathers the commands of a tick and hands them to the core in one native call.
//
// Words carry the commands, one buffer the binary payloads, one string all texts: appending to a string is V8's cheapest way
// to keep one, and the native side splits it again. A command is added completely or not at all: code that may throw or call
// the application runs first; nothing of the kind runs between writing the words and counting them.

const timers = require('node:timers');
const { failure } = require('./errors.js');
const { unshared } = require('./bytes.js');
const {
  SEND_BINARY, SEND_TEXT, SEND_TEXT_BYTES, SEND_PING, SEND_PONG, SEND_FRAGMENT, EMIT, REPLY, FAIL, REPLY_ERROR,
  REQUEST, BROADCAST, BROADCAST_TEXT, BROADCAST_BINARY, TO_EVERYONE, TO_ROOMS, TO_USER, LARGE, SAME_EVENT,
} = require('./records.js');

// Captured: a test's fake timers must not stop a server.
const { setImmediate } = timers;

const WORDS = 8192;
/** At least as many words as any command has, without the ids that it leaves out. */
const MOST_OF_ONE = 16;
/** Beyond these, the commands of a tick take several native calls. */
const MOST_BYTES = 256 * 1024;
const MOST_TEXT = 256 * 1024;
/** A longer text is refused: one string must hold it and the rest of its tick. */
const LONGEST_TEXT = 2 ** 28;

/**
 * A larger payload is handed over at once, from where it lies (`LARGE` beside its length); nothing is read after `send` has
 * returned.
 */
const LARGE_BYTES = 64 * 1024;
const LONGEST_BINARY = LARGE - 1;

const LAST_FRAGMENT = 1 << 7;

/** The characters of an envelope around the quoted event and the data; `REPLY_TO`: those that a reply adds around the id. */
const ENVELOPE = '{"event":,"data":,"status":"ok"}'.length;
const REPLY_TO = ',"id":'.length;
/** At least the bytes of envelope and frame header. */
const MOST_AROUND = 64;

/** `set` as a function: V8 looks the property up anew for each message. */
const setBytes = Function.prototype.call.bind(Uint8Array.prototype.set);

/** The names that say whom a broadcast goes to. */
function namesOf({ rooms, user }) {
  return rooms ?? (user === undefined ? NO_NAMES : [user]);
}

const NO_NAMES = [];

class Outbox {
  /** Other nodes of a cluster may change the rooms of connections. */
  isNode = false;
  #native;
  #onOutcome;
  #mostBytes;
  #wordsBuffer;
  #words;
  // The lengths of both are kept beside them: the getter of a typed array costs more than a command's words.
  #wordRoom;
  #wordCount = 0;
  #bytes = Buffer.alloc(64 * 1024);
  #byteRoom = this.#bytes.length;
  #byteCount = 0;
  #text = '';
  #event;
  #scheduled = false;
  #flushLater = () => {
    this.#scheduled = false;
    if (!this.held) this.flush();
  };

  /** True while events are handled: the inbox flushes at the end. */
  held = false;
  /** The number of flushes; the bytes that a connection has gathered belong to one of them. */
  turn = 0;
  /** When more than this was gathered for one connection, it is flushed, so that `queued` takes it into account. */
  quarter;
  /** The rules of messages. */
  contract;

  /**
   * `mostBytes`: `maxOutboxBytes`. `onOutcome` is told which connections are queued and which commands failed; it must not
   * call the application, which could be in the middle of a send.
   */
  constructor(native, contract, mostBytes, onOutcome) {
    this.#native = native;
    this.contract = contract;
    this.setMost(mostBytes);
    this.#onOutcome = onOutcome;
    this.#makeWords(WORDS);
  }

  /** `maxOutboxBytes` is this from now on. */
  setMost(mostBytes) {
    this.#mostBytes = mostBytes;
    this.quarter = Math.floor(mostBytes / 4);
  }

  /** Each of these returns the number of bytes (for text: UTF-16 units) added. `plain`: `PLAIN`, or 0. */
  binary(low, high, data, length, plain = 0) {
    return this.#payload(SEND_BINARY | plain, low, high, data, length);
  }

  /** A text that is there as its bytes. */
  textBytes(low, high, data, length, plain = 0) {
    return this.#payload(SEND_TEXT_BYTES | plain, low, high, data, length);
  }

  /** A ping and a pong with these bytes. */
  ping(low, high, data, length) {
    return this.#payload(SEND_PING, low, high, data, length);
  }

  pong(low, high, data, length) {
    return this.#payload(SEND_PONG, low, high, data, length);
  }

  /** A part of a message: 1 begins a text, 2 bytes, 0 goes on with it. */
  fragment(low, high, opcode, isLast, data, length) {
    this.#checkFrame(length);
    const at = this.#begin(length, 0);
    this.#keepBytes(data, length);
    const words = this.#words;
    words[at] = SEND_FRAGMENT;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = opcode | (isLast ? LAST_FRAGMENT : 0);
    words[at + 4] = length > LARGE_BYTES ? LARGE | length : length;
    this.#commit(at + 5, length, data);
    return length;
  }

  #payload(operation, low, high, data, length) {
    this.#checkFrame(length);
    const at = this.#begin(length, 0);
    this.#keepBytes(data, length);
    const words = this.#words;
    words[at] = operation;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = length > LARGE_BYTES ? LARGE | length : length;
    this.#commit(at + 4, length, data);
    return length;
  }

  text(low, high, text, plain = 0) {
    this.#checkText(text);
    const at = this.#begin(0, 0);
    this.#text += text;
    const words = this.#words;
    words[at] = SEND_TEXT | plain;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = text.length;
    this.#wordCount = at + 4;
    return text.length;
  }

  emit(low, high, event, data, plain = 0) {
    const units = this.#checkText(data, event);
    const at = this.#begin(0, 0);
    const words = this.#words;
    words[at] = EMIT | plain;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = this.#keepEvent(event);
    words[at + 4] = data.length;
    this.#text += data;
    this.#wordCount = at + 5;
    return units;
  }

  reply(low, high, id, event, data, plain = 0) {
    return this.#envelope(REPLY | plain, low, high, id, event, data);
  }

  /** `id`: empty for none. */
  replyError(low, high, id, event, data, plain = 0) {
    return this.#envelope(REPLY_ERROR | plain, low, high, id, event, data);
  }

  request(low, high, id, event, data, plain = 0) {
    return this.#envelope(REQUEST | plain, low, high, id, event, data);
  }

  #envelope(operation, low, high, id, event, data) {
    const units = this.#checkText(data, event, id);
    const at = this.#begin(0, 0);
    const words = this.#words;
    words[at] = operation;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = id.length;
    words[at + 5] = data.length;
    this.#text += id;
    words[at + 4] = this.#keepEvent(event);
    this.#text += data;
    this.#wordCount = at + 6;
    return units;
  }

  fail(low, high) {
    const at = this.#begin(0, 0);
    this.#words[at] = FAIL;
    this.#words[at + 1] = low;
    this.#words[at + 2] = high;
    this.#wordCount = at + 3;
  }

  /** `to`: `{ rooms }`, `{ user }`, or `{}` for everybody. `except`: the two words of each id that is left out, in turn. */
  broadcast(except, to, event, data, plain = 0) {
    this.#checkText(data, event);
    const at = this.#beginBroadcast(BROADCAST | plain, except, to);
    this.#words[at] = this.#keepEvent(event);
    this.#words[at + 1] = data.length;
    this.#text += data;
    this.#wordCount = at + 2;
  }

  broadcastText(except, to, text, plain = 0) {
    this.#checkText(text);
    const at = this.#beginBroadcast(BROADCAST_TEXT | plain, except, to);
    this.#words[at] = text.length;
    this.#text += text;
    this.#wordCount = at + 1;
  }

  broadcastBinary(except, to, data, length, plain = 0) {
    this.#checkFrame(length);
    const begin = this.#begin(length, except.length + namesOf(to).length);
    this.#keepBytes(data, length);
    const at = this.#writeBroadcast(begin, BROADCAST_BINARY | plain, except, to);
    this.#words[at] = length > LARGE_BYTES ? LARGE | length : length;
    this.#commit(at + 1, length, data);
  }

  /** Hands the gathered commands to the core. */
  flush() {
    if (this.#wordCount > 0) this.#handOver(undefined);
  }

  #handOver(large) {
    const [text, count, bytes] = [this.#text, this.#wordCount, this.#byteCount];
    this.#wordCount = 0;
    this.#byteCount = 0;
    this.#text = '';
    this.#event = undefined;
    this.turn += 1;
    const outcome = this.#native.flush(this.#wordsBuffer, count, this.#bytes, bytes, text, large);
    if (this.#byteRoom > MOST_BYTES) this.#makeBytes(MOST_BYTES);
    if (this.#wordRoom > WORDS) this.#makeWords(WORDS);
    if (outcome !== null) this.#onOutcome(JSON.parse(outcome));
  }

  /** Returns the units of a text, with those of the event and the id of an envelope. */
  #checkText(text, event = '', id = '') {
    const units = text.length + event.length + id.length;
    if (units > LONGEST_TEXT) {
      throw failure('invalid_argument', `a message must be at most ${LONGEST_TEXT} characters, got ${units}`);
    }
    // Far from the limit no bytes are counted: a unit takes at most three, in an event six.
    if (units * 3 + event.length * 3 + MOST_AROUND > this.#mostBytes) this.#measure(text, event, id);
    return units;
  }

  /** The core checks it as well, but only at the flush, where no `catch` of the application would see the error. */
  #measure(text, event, id) {
    let bytes = Buffer.byteLength(text);
    if (event !== '') bytes += ENVELOPE + Buffer.byteLength(JSON.stringify(event));
    if (id !== '') bytes += REPLY_TO + Buffer.byteLength(id);
    this.#checkFrame(bytes);
  }

  #checkFrame(bytes) {
    // A command has 31 bits for the length, whatever `maxOutboxBytes` is.
    if (bytes > LONGEST_BINARY) throw this.#tooLarge(bytes);
    const frame = bytes + (bytes <= 125 ? 2 : bytes <= 0xffff ? 4 : 10);
    if (frame > this.#mostBytes) throw this.#tooLarge(frame);
  }

  #tooLarge(length) {
    return failure('invalid_argument', `a message must fit into maxOutboxBytes (${this.#mostBytes}), got ${length} bytes with its frame`);
  }

  /**
   * Makes room for a payload and a command with `more` words than usual; flushes first if it must. Returns where the
   * command's words go. They do not count before `#wordCount` covers them.
   */
  #begin(bytes, more) {
    const words = MOST_OF_ONE + more;
    if (
      this.#wordCount + words > WORDS ||
      this.#text.length > MOST_TEXT ||
      (bytes > 0 && this.#byteCount > 0 && this.#byteCount + bytes > MOST_BYTES)
    ) {
      this.flush();
    }
    if (words > this.#wordRoom) this.#makeWords(words);
    if (bytes <= LARGE_BYTES && this.#byteCount + bytes > this.#byteRoom) this.#makeRoom(bytes);
    if (!this.held && !this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#flushLater);
    }
    return this.#wordCount;
  }

  #beginBroadcast(operation, except, to) {
    return this.#writeBroadcast(this.#begin(0, except.length + namesOf(to).length), operation, except, to);
  }

  /** Returns where the words of the message go. */
  #writeBroadcast(begin, operation, except, to) {
    const words = this.#words;
    const names = namesOf(to);
    let at = begin;
    words[at++] = operation;
    words[at++] = to.rooms !== undefined ? TO_ROOMS : to.user !== undefined ? TO_USER : TO_EVERYONE;
    words[at++] = names.length;
    for (const name of names) {
      words[at++] = name.length;
      this.#text += name;
    }
    words[at++] = except.length / 2;
    if (except.length > 0) words.set(except, at);
    return at + except.length;
  }

  /** Adds the event, once for commands with the same event in a row. Returns its length, or `SAME_EVENT`. */
  #keepEvent(event) {
    if (event === this.#event) return SAME_EVENT;
    this.#event = event;
    this.#text += event;
    return event.length;
  }

  /** Copies a payload, so that the application may reuse its memory. Throws if that memory is gone. */
  #keepBytes(data, length) {
    if (length > LARGE_BYTES) return;
    setBytes(this.#bytes, data, this.#byteCount);
  }

  /** Counts a command with a payload; a large payload is flushed at once. */
  #commit(wordCount, length, data) {
    // The copy may throw: a command without its payload would take the others of its flush with it.
    const large = length > LARGE_BYTES ? unshared(data, length) : undefined;
    this.#wordCount = wordCount;
    if (large !== undefined) return this.#handOver(large);
    this.#byteCount += length;
  }

  #makeWords(count) {
    this.#wordsBuffer = Buffer.alloc(count * 4);
    this.#words = new Uint32Array(this.#wordsBuffer.buffer, this.#wordsBuffer.byteOffset, count);
    this.#wordRoom = count;
  }

  #makeBytes(room) {
    this.#bytes = Buffer.alloc(room);
    this.#byteRoom = room;
  }

  #makeRoom(length) {
    const before = this.#bytes;
    this.#makeBytes(Math.max(this.#byteCount + length, Math.min(this.#byteRoom * 4, MOST_BYTES)));
    this.#bytes.set(before.subarray(0, this.#byteCount));
  }
}

module.exports = { Outbox };

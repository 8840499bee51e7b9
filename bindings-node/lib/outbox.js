'use strict';
// What a tick's handlers say, gathered and handed to the core in one native call.
//
// Words carry the commands, one buffer the binary payloads, one string all texts: adding to a string is V8's cheapest way
// to remember one, and the native side takes it apart again.

const { SEND_BINARY, SEND_TEXT, EMIT, REPLY, FAIL, BROADCAST, BROADCAST_TEXT, BROADCAST_BINARY } = require('./records.js');

const WORDS = 8192;
const MOST_WORDS = WORDS - 16;
/** Beyond these a tick is handed over in several calls. */
const MOST_BYTES = 256 * 1024;
const MOST_TEXT = 256 * 1024;
const MOST_LARGE = 1024 * 1024;

/** From here on a payload is not copied here but read where it lies, at the end of the tick. */
const LARGE_BYTES = 8 * 1024;
/** Beside a length word: the number of a large payload. */
const LARGE = 0x80000000;

/** In place of an event's length: it is the event of the command before. */
const SAME_EVENT = 0xffffffff;

const NO_ONE = 0xffffffff;

/** Memory that another thread may write to is copied whatever its size. */
function staysWhereItLies(data) {
  return data.length >= LARGE_BYTES && data.buffer instanceof ArrayBuffer;
}

class Outbox {
  #native;
  #onOutcome;
  #wordsBuffer = Buffer.allocUnsafeSlow(WORDS * 4);
  #words = new Uint32Array(this.#wordsBuffer.buffer, 0, WORDS);
  #wordCount = 0;
  #bytes = Buffer.allocUnsafeSlow(64 * 1024);
  #byteCount = 0;
  #text = '';
  #event;
  #large = [];
  #largeBytes = 0;
  #scheduled = false;
  #flushLater = () => {
    this.#scheduled = false;
    if (!this.held) this.flush();
  };

  /** While events are handled, whoever handles them flushes at the end. */
  held = false;

  /** `onOutcome` hears which connections do not read, and which commands were wrong. */
  constructor(native, onOutcome) {
    this.#native = native;
    this.#onOutcome = onOutcome;
  }

  binary(low, high, data) {
    const isLarge = staysWhereItLies(data);
    const at = this.#begin(4, isLarge ? 0 : data.length);
    const words = this.#words;
    words[at] = SEND_BINARY;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = isLarge ? this.#keepLarge(data) : this.#keepBytes(data);
  }

  text(low, high, text) {
    const at = this.#begin(4);
    const words = this.#words;
    words[at] = SEND_TEXT;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = text.length;
    this.#keepText(text);
  }

  emit(low, high, event, data) {
    const at = this.#begin(5);
    const words = this.#words;
    words[at] = EMIT;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = this.#keepEvent(event);
    words[at + 4] = data.length;
    this.#keepText(data);
  }

  reply(low, high, id, event, data) {
    const at = this.#begin(6);
    const words = this.#words;
    words[at] = REPLY;
    words[at + 1] = low;
    words[at + 2] = high;
    words[at + 3] = id.length;
    words[at + 5] = data.length;
    this.#keepText(id);
    words[at + 4] = this.#keepEvent(event);
    this.#keepText(data);
  }

  fail(low, high) {
    const at = this.#begin(3);
    this.#words[at] = FAIL;
    this.#words[at + 1] = low;
    this.#words[at + 2] = high;
  }

  broadcast(except, room, event, data) {
    const at = this.#beginBroadcast(BROADCAST, 7, except, room);
    this.#words[at + 5] = this.#keepEvent(event);
    this.#words[at + 6] = data.length;
    this.#keepText(data);
  }

  broadcastText(except, room, text) {
    const at = this.#beginBroadcast(BROADCAST_TEXT, 6, except, room);
    this.#words[at + 5] = text.length;
    this.#keepText(text);
  }

  broadcastBinary(except, room, data) {
    const isLarge = staysWhereItLies(data);
    const at = this.#beginBroadcast(BROADCAST_BINARY, 6, except, room, isLarge ? 0 : data.length);
    this.#words[at + 5] = isLarge ? this.#keepLarge(data) : this.#keepBytes(data);
  }

  /** Hands over what was gathered. */
  flush() {
    if (this.#wordCount === 0) return;
    const text = this.#text;
    const count = this.#wordCount;
    this.#wordCount = 0;
    this.#byteCount = 0;
    this.#text = '';
    this.#event = undefined;
    const large = this.#large;
    if (large.length > 0) {
      this.#large = [];
      this.#largeBytes = 0;
    }
    const outcome = this.#native.flush(this.#wordsBuffer, count, this.#bytes, text, large);
    if (this.#bytes.length > MOST_BYTES) this.#bytes = Buffer.allocUnsafeSlow(MOST_BYTES);
    if (outcome !== null) this.#onOutcome(JSON.parse(outcome));
  }

  /** Takes words, and sees to room for bytes; whatever must be handed over first is. */
  #begin(words, bytes = 0) {
    if (this.#wordCount > MOST_WORDS || this.#text.length > MOST_TEXT || this.#largeBytes > MOST_LARGE) this.flush();
    if (this.#byteCount + bytes > this.#bytes.length) this.#makeRoom(bytes);
    if (!this.held && !this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#flushLater);
    }
    const at = this.#wordCount;
    this.#wordCount = at + words;
    return at;
  }

  #beginBroadcast(operation, count, except, room, bytes) {
    const at = this.#begin(count, bytes);
    const words = this.#words;
    words[at] = operation;
    words[at + 1] = except === undefined ? NO_ONE : except.low;
    words[at + 2] = except === undefined ? NO_ONE : except.high;
    words[at + 3] = room === undefined ? 0 : 1;
    words[at + 4] = room === undefined ? 0 : room.length;
    if (room !== undefined) this.#keepText(room);
    return at;
  }

  /** Texts are added one by one: joining them first would only make another string. */
  #keepText(text) {
    this.#text += text;
  }

  /** Most commands of a tick speak of the same event, which is then said once; its length. */
  #keepEvent(event) {
    if (event === this.#event) return SAME_EVENT;
    this.#event = event;
    this.#text += event;
    return event.length;
  }

  /** Copies a payload, so that the application may use its buffer again; its length. */
  #keepBytes(data) {
    this.#bytes.set(data, this.#byteCount);
    this.#byteCount += data.length;
    return data.length;
  }

  /** Remembers a payload; its number. */
  #keepLarge(data) {
    this.#largeBytes += data.length;
    return LARGE | (this.#large.push(data) - 1);
  }

  #makeRoom(length) {
    if (this.#byteCount + length > MOST_BYTES) this.flush();
    const wanted = this.#byteCount + length;
    if (wanted <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(wanted, Math.min(this.#bytes.length * 4, MOST_BYTES)));
    larger.set(this.#bytes.subarray(0, this.#byteCount));
    this.#bytes = larger;
  }
}

module.exports = { Outbox };

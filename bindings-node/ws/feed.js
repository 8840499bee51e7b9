'use strict';
// A connection on any Duplex: its bytes go through JavaScript to the core and back.

const timers = require('node:timers');
const { contain } = require('./contained.js');
const { pauseBy } = require('./paused.js');

// Captured: a test's fake timers must not keep a stream.
const { clearTimeout, setTimeout } = timers;
/** Bytes that are taken for the peer at once. */
const PIECE = 64 * 1024;
/** How long what was said last may be on its way. */
const PATIENCE_MS = 2000;

class Feed {
  #hub;
  #stream;
  /** The stream's own `pause` and `resume`: the application's are the connection's. */
  #pause;
  #resume;
  #low;
  #high;
  #isEnded = false;
  #isOver = false;
  /** The peer has left: what it had said is still to be read, and nobody reads the answers. */
  #isLeft = false;
  #waitsForDrain = false;
  /** Ends the stream of a peer that does not read. */
  #patience;
  #onClosed = () => {};
  #onLeft = () => {};

  /** `received`: what was read before, in pieces. */
  constructor(hub, stream, told, received) {
    this.#hub = hub;
    this.#stream = stream;
    [this.#pause, this.#resume] = [stream.pause.bind(stream), stream.resume.bind(stream)];
    [this.#low, this.#high] = hub.adoptPipe(this, told, Buffer.concat(received));
    stream.on('data', this.#onData);
    stream.on('end', () => hub.native.endPipe(this.#low, this.#high));
    stream.on('error', () => stream.destroy());
    stream.on('close', () => this.#close());
    stream.on('drain', () => this.#onDrain());
    this.#resume();
  }

  /** The words of the pipe's id. */
  get id() {
    return [this.#low, this.#high];
  }

  /** Calls `end` when the application has destroyed the stream, `left` when the peer has left, or the way to it is broken. */
  onClosed(end, left) {
    [this.#onClosed, this.#onLeft] = [end, left];
  }

  /** The stream is read for the core: who pauses it pauses the connection. */
  isReadBy(ws) {
    pauseBy(ws, this.#stream);
  }

  /** An application that ends the stream has ended it. */
  onEnded() {}

  /** There will be no connection. */
  giveBack() {
    this.end();
  }

  /** The core is done with the connection; what it said last may still be on its way, to a peer that may never read it. */
  end() {
    this.#limit();
    this.onReady();
  }

  /** There is room for more of the peer. */
  onRoom() {
    if (!this.#isOver) this.#resume();
  }

  /** There is something for the peer. */
  onReady() {
    while (!this.#isOver && !this.#isEnded && !this.#waitsForDrain) {
      const { bytes, isEnded, more } = this.#hub.native.takePipe(this.#low, this.#high, PIECE);
      const goesOn = bytes.length === 0 || this.#write(bytes);
      if (isEnded) return this.#end();
      if (!goesOn) this.#waitsForDrain = true;
      if (!more) return undefined;
    }
    return undefined;
  }

  /** The process ends, and no turn follows: what the core has said goes to the stream now, whether or not that asks to wait. */
  endNow() {
    this.#waitsForDrain = false;
    this.onReady();
  }

  #write(bytes) {
    if (this.#isLeft) return true;
    try {
      return this.#stream.write(bytes);
    } catch (error) {
      // A stream of the application's own: bytes are lost, so nothing may follow.
      this.#stream.destroy();
      contain(error);
      return false;
    }
  }

  #onData = (chunk) => {
    if (!this.#hub.native.pushPipe(this.#low, this.#high, chunk)) this.#pause();
  };

  #onDrain() {
    this.#waitsForDrain = false;
    this.onReady();
  }

  /** Ends our side, and with it the stream: nothing follows that could be read. */
  #end() {
    if (this.#isLeft) return this.#drop();
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#stream.off('data', this.#onData);
    this.#resume();
    this.#stream.end(() => this.#stream.destroy());
    this.#limit();
  }

  /** A peer that does not read must not keep the stream for ever. */
  #limit() {
    if (this.#isOver || this.#isLeft) return;
    this.#patience ??= setTimeout(() => {
      this.#stream.destroy();
      this.#close();
    }, PATIENCE_MS).unref();
  }

  #close() {
    if (this.#isOver || this.#isLeft) return;
    clearTimeout(this.#patience);
    if (this.#isEnded || !this.#isClosedByPeer) {
      this.#drop();
      return this.#onClosed();
    }
    [this.#isLeft, this.#waitsForDrain] = [true, false];
    this.#hub.native.endPipe(this.#low, this.#high);
    this.#onLeft();
    this.onReady();
  }

  /** Whether it is the peer that has closed the stream, or a failure of what is below, and not the application. */
  get #isClosedByPeer() {
    const { readableEnded, errored, aborted } = this.#stream;
    return readableEnded || Boolean(errored) || Boolean(aborted);
  }

  #drop() {
    this.#isOver = true;
    this.#hub.dropPipe(this.#low, this.#high);
  }
}

module.exports = { Feed };

'use strict';
// Frames of a client, RFC 6455 section 5: masked ones to write, unmasked ones to read.

const { randomFillSync } = require('node:crypto');
const { constants, deflateRawSync, inflateRawSync } = require('node:zlib');

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
/** On the first frame of a compressed message (RFC 7692 section 6). */
const RSV1 = 0x40;
/** What the sender of one leaves out at its end (section 7.2.1). */
const TAIL = Buffer.from([0, 0, 0xff, 0xff]);
const FLUSH = { finishFlush: constants.Z_SYNC_FLUSH };

/** A message by itself: none depends on another. */
function compressed(payload) {
  return deflateRawSync(payload, FLUSH).subarray(0, -TAIL.length);
}

/** A whole message in one frame. */
function frame(opcode, payload) {
  const { length } = payload;
  const extended = length <= 125 ? 0 : length <= 0xffff ? 2 : 8;
  const out = Buffer.alloc(2 + extended + 4 + length);
  out[0] = 0x80 | opcode;
  out[1] = 0x80 | (extended === 0 ? length : extended === 2 ? 126 : 127);
  if (extended === 2) out.writeUInt16BE(length, 2);
  if (extended === 8) out.writeBigUInt64BE(BigInt(length), 2);
  const mask = 2 + extended;
  randomFillSync(out, mask, 4);
  for (let at = 0; at < length; at += 1) out[mask + 4 + at] = payload[at] ^ out[mask + (at & 3)];
  return out;
}

/** Reads frames from chunks; calls `onMessage(opcode, payload)` for each message and each control frame. */
class FrameReader {
  #onMessage;
  #rest = Buffer.alloc(0);
  #opcode = CONTINUATION;
  #isCompressed = false;
  #fragments = [];

  constructor(onMessage) {
    this.#onMessage = onMessage;
  }

  read(chunk) {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (this.#readOne());
  }

  #readOne() {
    const data = this.#rest;
    if (data.length < 2) return false;
    const short = data[1] & 0x7f;
    const start = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (data.length < start) return false;
    const length = short < 126 ? short : short === 126 ? data.readUInt16BE(2) : Number(data.readBigUInt64BE(2));
    if (data.length < start + length) return false;
    this.#rest = data.subarray(start + length);
    this.#take(data[0], data[0] & 15, data.subarray(start, start + length));
    return true;
  }

  #take(first, opcode, payload) {
    if (opcode >= CLOSE) return this.#onMessage(opcode, payload);
    if (opcode !== CONTINUATION) [this.#opcode, this.#isCompressed] = [opcode, (first & RSV1) !== 0];
    this.#fragments.push(payload);
    if ((first & 0x80) === 0) return undefined;
    const parts = this.#fragments.splice(0);
    return this.#onMessage(this.#opcode, this.#isCompressed ? inflateRawSync(Buffer.concat([...parts, TAIL]), FLUSH) : Buffer.concat(parts));
  }
}

module.exports = { BINARY, CLOSE, FrameReader, PING, PONG, RSV1, TEXT, compressed, frame };

'use strict';
// Frames that a library has encoded itself to send them to many: Socket.IO makes one for a broadcast and gives it to each
// connection's `_sender`.

const [FIN, OPCODE, MASK] = [0x80, 0x0f, 0x80];

/** What is in one unmasked frame; undefined: it is not one of a whole message. */
function payloadOf(frame) {
  const bytes = frame.length === 1 ? frame[0] : Buffer.concat(frame);
  if (bytes.length < 2) return undefined;
  const opcode = bytes[0] & OPCODE;
  const isPlain = bytes[0] === (FIN | opcode) && (opcode === 1 || opcode === 2) && (bytes[1] & MASK) === 0;
  const short = bytes[1] & ~MASK;
  const start = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (!isPlain || bytes.length < start) return undefined;
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  return bytes.length === start + length ? { payload: bytes.subarray(start), isBinary: opcode === 2 } : undefined;
}

/** The one method of a connection's `_sender` that others call. */
class Sender {
  #ws;

  constructor(ws) {
    this.#ws = ws;
  }

  sendFrame(frame, callback) {
    const found = payloadOf(frame.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
    if (found === undefined) throw new TypeError('a frame must be a whole text or binary message, without mask and extensions');
    this.#ws.send(found.payload, { binary: found.isBinary, compress: false }, callback);
  }
}

module.exports = { Sender };

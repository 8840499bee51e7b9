'use strict';
// What is bytes: any view, any ArrayBuffer, of any realm, whatever its properties pretend.

const { types } = require('node:util');
const { failure } = require('./errors.js');

const ofTypedArrays = Object.getPrototypeOf(Uint8Array.prototype);
const getter = (prototype, name) => Function.prototype.call.bind(Object.getOwnPropertyDescriptor(prototype, name).get);

/** The real length of a typed array: an own property or a subclass may state another. */
const byteLengthOf = getter(ofTypedArrays, 'byteLength');
const bufferOf = getter(ofTypedArrays, 'buffer');

/** The memory that received messages are slices of: it holds those of other connections as well. */
const slabs = new WeakSet();
const SMALLEST_SLAB = 64 * 1024;

/** Remembers the memory of received messages. */
function keepSlab(slab) {
  slabs.add(slab.buffer);
}

function refuseSlab() {
  throw failure(
    'invalid_argument',
    'that ArrayBuffer also holds messages of other connections (of a received Buffer, send the Buffer, not its buffer)',
  );
}

function gone() {
  return failure('invalid_argument', 'the memory of the message is gone: it was transferred, or its buffer became smaller');
}

/** Bytes of any view or ArrayBuffer as a Uint8Array whose memory is there; without a copy where nobody else writes. */
function bytesOf(data) {
  if (types.isUint8Array(data)) return checked(data);
  if (ArrayBuffer.isView(data)) {
    let view;
    try {
      view = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    } catch {
      throw gone();
    }
    return checked(view);
  }
  if (types.isAnyArrayBuffer(data)) {
    if (slabs.has(data)) refuseSlab();
    let view;
    try {
      view = new Uint8Array(data);
    } catch {
      throw gone();
    }
    return checked(view);
  }
  throw failure(
    'invalid_argument',
    `a message must be a string, Buffer, typed array or ArrayBuffer, got ${data === null ? 'null' : typeof data}`,
  );
}

function checked(view) {
  const length = byteLengthOf(view);
  if (length === 0) return isGone(view) ? refuseGone() : view;
  if (length < SMALLEST_SLAB) return view;
  const buffer = bufferOf(view);
  if (slabs.has(buffer) && length === buffer.byteLength) refuseSlab();
  // Another thread may write to it while it is read.
  return types.isSharedArrayBuffer(buffer) ? new Uint8Array(view) : view;
}

function refuseGone() {
  throw gone();
}

/** Whether an array that has no length has lost its memory: then it cannot be read. */
function isGone(view) {
  try {
    new Uint8Array(0).set(view);
    return false;
  } catch {
    return true;
  }
}

module.exports = { byteLengthOf, bytesOf, keepSlab };

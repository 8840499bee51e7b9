'use strict';
// Reads bytes from any view or ArrayBuffer of any realm, whatever its own properties claim.

const { isAnyArrayBuffer, isSharedArrayBuffer, isUint8Array } = require('node:util').types;
const { failure } = require('./errors.js');

const ofTypedArrays = Object.getPrototypeOf(Uint8Array.prototype);
const getter = (prototype, name) => Function.prototype.call.bind(Object.getOwnPropertyDescriptor(prototype, name).get);

/** The real length of a typed array: an own property or a subclass may state another. */
const byteLengthOf = getter(ofTypedArrays, 'byteLength');
const bufferOf = getter(ofTypedArrays, 'buffer');
const offsetOf = getter(ofTypedArrays, 'byteOffset');

/** The memory of received messages. It also holds messages of other connections. */
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

/** Bytes of any view or ArrayBuffer as a Uint8Array, without a copy. */
function bytesOf(data) {
  if (isUint8Array(data)) return data;
  if (!ArrayBuffer.isView(data) && !isAnyArrayBuffer(data)) {
    const got = data === null ? 'null' : typeof data;
    throw failure('invalid_argument', `a message must be a string, Buffer, typed array or ArrayBuffer, got ${got}`);
  }
  if (slabs.has(data)) refuseSlab();
  try {
    return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
  } catch {
    throw gone();
  }
}

/** The real length of a Uint8Array from `bytesOf`. Throws if its memory is gone, or is a whole slab. */
function lengthOf(bytes) {
  const length = byteLengthOf(bytes);
  if (length === 0 && isGone(bytes)) throw gone();
  if (length >= SMALLEST_SLAB && isSlab(bytes, length)) refuseSlab();
  return length;
}

function isSlab(bytes, length) {
  const buffer = bufferOf(bytes);
  return slabs.has(buffer) && length === buffer.byteLength;
}

/** Copies bytes of shared memory, which another thread may change, or make longer, while they are read. */
function unshared(bytes, length) {
  const buffer = bufferOf(bytes);
  return isSharedArrayBuffer(buffer) ? new Uint8Array(new Uint8Array(buffer, offsetOf(bytes), length)) : bytes;
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

module.exports = { bytesOf, keepSlab, lengthOf, unshared };

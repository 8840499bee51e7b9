'use strict';
// What `send` takes: text, and bytes of every kind that `ws` takes.

const { isAnyArrayBuffer } = require('node:util').types;
const { bytesOf, lengthOf } = require('../lib/bytes.js');

const NO_BYTES = Buffer.alloc(0);

function isBlob(data) {
  return typeof data === 'object' && data !== null && typeof data.arrayBuffer === 'function' && typeof data.size === 'number';
}

/** A text as it is, anything else as bytes. */
function payloadOf(data) {
  if (typeof data === 'string') return data;
  if (!data) return NO_BYTES;
  return ArrayBuffer.isView(data) || isAnyArrayBuffer(data) ? bytesOf(data) : Buffer.from(data);
}

/** A binary message as `binaryType` wants it. */
function messageOf(data, binaryType) {
  if (binaryType === 'fragments') return data.length === 0 ? [] : [data];
  if (binaryType === 'blob') return new Blob([data]);
  // Its memory is of its own: the slab holds the messages of others.
  const copy = new Uint8Array(data.length);
  copy.set(data);
  return copy.buffer;
}

module.exports = { isBlob, lengthOf, messageOf, payloadOf };

'use strict';
// Each protocol has calls of its own: the peer would not understand those of the other.

const { failure } = require('./errors.js');

function checkSends(isRaw) {
  if (!isRaw) throw failure('invalid_argument', '`send` is of protocol: "raw"; here it is `emit` or `reply`');
}

function checkEmits(isJson) {
  if (!isJson) throw failure('invalid_argument', '`emit` and `reply` are of protocol: "json"; here it is `send`');
}

module.exports = { checkEmits, checkSends };

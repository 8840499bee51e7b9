'use strict';
// What `perMessageDeflate` of ws leaves of the policy's `compression`: it may only make it less.

const { createDeflateRaw } = require('node:zlib');
const { isPlain } = require('../lib/policy.js');
const { set, valueOf } = require('./spelling.js');

/** The largest that `thresholdBytes` may be. A message that is as long is never compressed anyway. */
const NOTHING_IS_LONGER = 16_777_216;
/** The core's own values, where the policy says nothing. */
const USUAL = { thresholdBytes: 1024, level: 3 };

/** Sets `compression` of a policy, a copy, and of its routes to what `perMessageDeflate` leaves of it; `undefined` leaves it. */
function tightenCompression(policy, given) {
  if (given === undefined) return;
  const limits = given && limitsOf(given);
  const tighten = (stated) => {
    if (!isPlain(stated) || !isPlain(stated.compression)) return stated;
    return { ...stated, compression: limits ? tightened(stated.compression, limits) : null };
  };
  policy.compression = tighten(policy).compression;
  if (isPlain(policy.routes)) policy.routes = Object.fromEntries(Object.entries(policy.routes).map(([path, route]) => [path, tighten(route)]));
}

/** Whether a policy, or a route of it, has `compression`. */
function hasCompression(policy) {
  const { compression, routes } = policy;
  return Boolean(compression) || (isPlain(routes) && Object.values(routes).some((route) => Boolean(route?.compression)));
}

/** The threshold and the level that the options of ws ask for; what zlib refuses is refused here, in its words. */
function limitsOf({ threshold, serverMaxWindowBits, zlibDeflateOptions }) {
  checkForZlib({ ...zlibDeflateOptions, ...(typeof serverMaxWindowBits === 'number' ? { windowBits: serverMaxWindowBits } : {}) });
  const level = Math.trunc(zlibDeflateOptions?.level ?? -1);
  // zlib's level 0 stores what it is given, and -1 is its own choice.
  if (level === 0) return { threshold: NOTHING_IS_LONGER, level: undefined };
  return { threshold: bytesOf(threshold), level: level > 0 ? level : undefined };
}

/** A threshold as ws compares with it: messages of at least so many bytes are compressed. */
function bytesOf(threshold) {
  const bytes = Math.ceil(Number(threshold ?? 0));
  // Nothing is at least NaN.
  return Number.isNaN(bytes) ? NOTHING_IS_LONGER : Math.min(Math.max(bytes, 0), NOTHING_IS_LONGER);
}

function checkForZlib(options) {
  if (Object.keys(options).length > 0) createDeflateRaw(options).close();
}

function tightened(compression, { threshold, level }) {
  const copy = { ...compression };
  if (threshold > numberIn(copy, 'thresholdBytes')) set(copy, 'thresholdBytes', threshold);
  if (level < numberIn(copy, 'level')) set(copy, 'level', level);
  return copy;
}

function numberIn(compression, name) {
  return valueOf(compression, name) ?? USUAL[name];
}

module.exports = { hasCompression, tightenCompression };

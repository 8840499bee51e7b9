'use strict';
// AbortControllers whose signals the application gives to what it begins.

const { setMaxListeners } = require('node:events');

/** Each message may begin something that listens: Node would warn of the eleventh, which a peer could cause on each connection. */
function newController() {
  const controller = new AbortController();
  try {
    setMaxListeners(0, controller.signal);
  } catch {
    // One of a test runner's own, which does not warn.
  }
  return controller;
}

module.exports = { newController };

'use strict';
// A server in a worker of Node's `cluster`.

const cluster = require('node:cluster');

/**
 * Calls `end` when this worker is disconnected: `cluster` closes the servers it knows, and waits for the worker to end. Returns how to
 * be left alone.
 */
function onDisconnect(end) {
  const { worker } = cluster;
  if (!worker) return undefined;
  worker.once('disconnect', end);
  return () => worker.off('disconnect', end);
}

module.exports = { onDisconnect };

'use strict';
// At the end of the process every server delivers what was sent, and its threads end.

const running = new Set();
let isWatched = false;

/** Calls `end` at the end of the process, if nobody has called `forget` by then. */
function endWithProcess(end) {
  running.add(end);
  if (isWatched) return;
  isWatched = true;
  process.on('exit', () => {
    for (const one of running) one();
  });
}

function forget(end) {
  running.delete(end);
}

module.exports = { endWithProcess, forget };

'use strict';
// The socket of a connection, whose bytes go to the core: whoever pauses or resumes the one pauses or resumes the other.

/** From here on `pause`, `resume` and `isPaused` of the socket are those of the connection. */
function pauseBy(ws, socket) {
  for (const name of ['pause', 'resume']) {
    set(socket, name, () => {
      ws[name]();
      return socket;
    });
  }
  set(socket, 'isPaused', () => ws.isPaused);
}

/** Gives a socket a property of its own. */
function set(socket, name, value) {
  Object.defineProperty(socket, name, { value, configurable: true, writable: true });
}

module.exports = { pauseBy, set };

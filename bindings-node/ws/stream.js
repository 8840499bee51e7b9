'use strict';
// A connection as a Duplex stream.

const { Duplex } = require('node:stream');

/** Each chunk that is written is a message; each message is read as a chunk (a text as a string in object mode). */
function createWebSocketStream(ws, options) {
  // What it was closed for: its end is the connection's.
  let endsConnection = true;
  const stream = new Duplex({
    ...options,
    autoDestroy: false,
    emitClose: false,
    objectMode: false,
    writableObjectMode: false,
    read() {
      if (ws.isPaused) ws.resume();
    },
    write(chunk, _encoding, callback) {
      whenOpen(() => ws.send(chunk, callback));
    },
    final(callback) {
      whenOpen(() => {
        if (ws.readyState === ws.CLOSED) return callback();
        ws.once('close', () => callback());
        ws.close();
      });
    },
    destroy(error, callback) {
      const end = () => {
        callback(error);
        process.nextTick(() => stream.emit('close'));
      };
      if (ws.readyState === ws.CLOSED) return end();
      ws.once('close', end);
      if (endsConnection) ws.terminate();
    },
  });
  function whenOpen(call) {
    if (ws.readyState === ws.CONNECTING) ws.once('open', call);
    else call();
  }

  ws.on('message', (data, isBinary) => {
    const chunk = !isBinary && stream.readableObjectMode ? data.toString() : data;
    if (!stream.push(chunk)) ws.pause();
  });
  ws.once('error', (error) => {
    if (stream.destroyed) return;
    // The close frame that says why is on its way: it must not be cut off.
    endsConnection = false;
    stream.destroy(error);
  });
  ws.once('close', () => {
    if (!stream.destroyed) stream.push(null);
  });
  stream.on('end', () => {
    if (!stream.destroyed && stream.writableFinished) stream.destroy();
  });
  stream.on('finish', () => {
    if (!stream.destroyed && stream.readableEnded) stream.destroy();
  });
  stream.on('error', () => stream.destroy());
  return stream;
}

module.exports = { createWebSocketStream };

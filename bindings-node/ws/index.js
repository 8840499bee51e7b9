'use strict';

const { createWebSocketStream } = require('./stream.js');
const { guard } = require('./guard.js');
const { WebSocketServer } = require('./server.js');
const { WebSocket } = require('./websocket.js');

// As `ws` exports it: the class of connections, and everything else as properties of it.
module.exports = Object.assign(WebSocket, { Server: WebSocketServer, WebSocket, WebSocketServer, createWebSocketStream, guard });

import WebSocket from './index.js';

const { Server, WebSocketServer, createWebSocketStream, guard } = WebSocket;
export { Server, WebSocket, WebSocketServer, createWebSocketStream, guard };
export default WebSocket;

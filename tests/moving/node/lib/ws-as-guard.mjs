import ws from './ws-as-guard.cjs';

export default ws;
export const { Server, WebSocket, WebSocketServer, createWebSocketStream, guard } = ws;

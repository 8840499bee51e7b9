// The server of Bun's documentation, which embeds uWebSockets; nothing stated but the port.

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response('Upgrade failed', { status: 500 });
  },
  websocket: {
    message(ws, message) {
      ws.send(message);
    },
  },
});
console.log(server.port);

process.stdin.resume().on('end', () => process.exit(0));

// The page of another origin: connects, listens for a while, says something, and reports what it could do. The browser adds
// the visitor's cookie by itself.

const LISTEN_MS = 1500;

addEventListener("message", ({ source, origin, data }) => {
  if (source !== parent || data?.kind !== "attack") return;
  let opened = false;
  let heard = 0;
  let hasEnough = false;
  const socket = new WebSocket(data.server);
  socket.onopen = () => {
    opened = true;
    socket.send(JSON.stringify({ event: "say", data: { name: "foreign page", text: "I speak from another website." } }));
    setTimeout(() => {
      hasEnough = true;
      socket.close();
    }, LISTEN_MS);
  };
  socket.onmessage = () => (heard += 1);
  socket.onclose = ({ code, reason }) => {
    const close = opened && !hasEnough ? { code, reason } : null;
    parent.postMessage({ kind: "result", opened, heard, close }, origin);
  };
});

parent.postMessage({ kind: "ready" }, "*");

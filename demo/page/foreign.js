// The page of another origin: tries to connect, with a token that works elsewhere, and reports what it saw.

const { page, server } = document.body.dataset;

addEventListener("message", ({ origin, data }) => {
  if (origin !== page || data?.kind !== "attack") return;
  let opened = false;
  const socket = new WebSocket(server, ["bearer", data.token]);
  socket.onopen = () => {
    opened = true;
    socket.close();
  };
  socket.onclose = ({ code, reason }) => parent.postMessage({ kind: "result", opened, code, reason }, page);
});

parent.postMessage({ kind: "ready" }, page);

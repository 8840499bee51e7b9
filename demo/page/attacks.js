// The attacks, each over a WebSocket of its own. What the server does about them is decided by its policy alone.

// Longer than the server needs for anything it does here.
const PATIENCE_MS = 8000;

const say = (text) => JSON.stringify({ event: "say", data: { text } });

const TORN = '{"event":"say","data":{"text":"hel';
const UNKNOWN = '{"event":"make_admin","data":"me"}';
const MISTYPED = '{"event":"say","data":{"text":42}}';
const POISONED = '{"event":"say","data":{"__proto__":{"admin":true},"text":"hi"}}';

/** Opens a socket, does `act` once it is open, and tells how it ended. */
function observe(server, protocols, act = (socket) => socket.close()) {
  return new Promise((resolve) => {
    let opened = false;
    const socket = new WebSocket(server, protocols);
    const timer = setTimeout(() => {
      socket.onclose = null;
      socket.close();
      resolve({ opened, stillOpen: true });
    }, PATIENCE_MS);
    socket.onopen = () => {
      opened = true;
      act(socket);
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(timer);
      resolve({ opened, code, reason });
    };
  });
}

/** An attack by someone who is let in: with a valid token, from the right page. */
const inside = (act) => ({ server, token }) => observe(server, ["bearer", token], act);

/** Loads the page of the foreign origin in a hidden frame and lets it try, with a valid token. */
function fromForeignPage({ foreign, token }) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    const end = (result) => {
      clearTimeout(timer);
      removeEventListener("message", hear);
      frame.remove();
      resolve(result);
    };
    const timer = setTimeout(() => end({ opened: false, stillOpen: true }), PATIENCE_MS);
    function hear({ origin, source, data }) {
      if (origin !== foreign || source !== frame.contentWindow) return;
      if (data.kind === "ready") frame.contentWindow.postMessage({ kind: "attack", token }, foreign);
      if (data.kind === "result") end(data);
    }
    addEventListener("message", hear);
    frame.hidden = true;
    frame.title = "a page of a foreign origin";
    frame.src = `${foreign}/`;
    document.body.append(frame);
  });
}

/**
 * Every attack: `wire` is the telling part of what is sent, `run` sends it and tells how the connection ended. `early`:
 * it is to be refused before the upgrade, where the server knows no user yet.
 */
export const ATTACKS = [
  {
    id: "foreign-origin",
    title: "Foreign page",
    why: "A page of another origin connects with a token it stole; its Origin header, which it cannot forge, gives it away.",
    wire: ({ foreign }) => `Origin: ${foreign}`,
    early: true,
    run: fromForeignPage,
  },
  {
    id: "no-token",
    title: "No token",
    why: "A connection without a credential never becomes a WebSocket: who it is must be clear before the upgrade.",
    wire: () => "new WebSocket(server)",
    early: true,
    run: ({ server }) => observe(server, []),
  },
  {
    id: "oversize",
    title: "Oversize",
    why: "64 KiB where 4 KiB are allowed: the frame’s header alone decides, before one byte of it is kept.",
    wire: () => '{"event":"say","data":{"text":"xxxxx…"}}',
    run: inside((socket) => socket.send(say("x".repeat(64 * 1024)))),
  },
  {
    id: "flood",
    title: "Flood",
    why: "300 valid messages at once: a burst passes, some are delayed, and what overflows ends the connection.",
    wire: () => '{"event":"say",…} × 300',
    run: inside((socket) => {
      for (let sent = 0; sent < 300; sent += 1) socket.send(say(`flood ${sent}`));
    }),
  },
  {
    id: "malformed-json",
    title: "Malformed JSON",
    why: "A message that stops in the middle of its JSON is not guessed at: the handler never sees it.",
    wire: () => TORN,
    run: inside((socket) => socket.send(TORN)),
  },
  {
    id: "unknown-event",
    title: "Unknown event",
    why: "“make_admin” is not in the policy’s list of events, so there is nothing it could reach.",
    wire: () => UNKNOWN,
    run: inside((socket) => socket.send(UNKNOWN)),
  },
  {
    id: "wrong-schema",
    title: "Wrong type",
    why: "A number where the event’s schema says text: the application can rely on what it gets.",
    wire: () => MISTYPED,
    run: inside((socket) => socket.send(MISTYPED)),
  },
  {
    id: "proto-key",
    title: "__proto__ key",
    why: "A key that poisons the prototypes of careless JavaScript is refused at any depth of the data.",
    wire: () => POISONED,
    run: inside((socket) => socket.send(POISONED)),
  },
  {
    id: "binary-frame",
    title: "Binary frame",
    why: "This server speaks JSON in text frames; bytes of any other kind have no parser to confuse.",
    wire: () => "de ad be ef",
    run: inside((socket) => socket.send(new Uint8Array([0xde, 0xad, 0xbe, 0xef]))),
  },
];

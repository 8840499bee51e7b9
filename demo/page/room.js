// One chat: a connection that is kept up, the messages that come over it, and the meter that asks for echoes on it.

const MOST_MESSAGES = 80;
const MOST_LETTERS = 160;
const PACE_MS = 250;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
// As often refused in a row, the program has ended or has forgotten this guest.
const MOST_RETRIES = 5;

export class Room {
  #socket;
  #failures = 0;
  #waiting = [];
  #list;
  #link;
  #options;

  /** `kind`: "guarded" or "plain", which speak a little differently. `onPolicy`: there may be another policy. */
  constructor(panel, options) {
    this.#options = options;
    this.#list = panel.querySelector(".said");
    this.#link = panel.querySelector(".link");
    this.#connect();
    setInterval(() => this.#ask(), PACE_MS);
  }

  /** Says `text`; false: it is not connected. */
  say(text) {
    if (this.#options.kind === "guarded") return this.#emit("say", { text });
    // This server knows nobody: it passes on whatever name is in the message, to all but the sender.
    const data = { name: this.#options.user, text };
    const sent = this.#emit("say", data);
    if (sent) this.#show(line(data.name, text, "own"));
    return sent;
  }

  /** Another policy may let in whom the last one kept out. */
  retry() {
    const gaveUp = this.#failures > MOST_RETRIES;
    this.#failures = 0;
    if (gaveUp) this.#connect();
  }

  #emit(event, data, id) {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify({ event, data, id }));
    return true;
  }

  #ask() {
    const number = this.#options.meter.begin();
    if (!this.#emit("echo", number, number)) this.#options.meter.give(number);
  }

  #connect() {
    const socket = new WebSocket(this.#options.server);
    this.#socket = socket;
    socket.onopen = () => {
      this.#failures = 0;
      this.#tellLink("open", "connected");
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#receive(data) : this.#show(binary(data)));
    socket.onclose = ({ reason }) => {
      this.#failures += 1;
      this.#options.meter.forget();
      if (this.#failures > MOST_RETRIES) return this.#tellLink("closed", "disconnected: reload the page");
      this.#tellLink("closed", reason ? `closed: ${reason}` : "disconnected");
      setTimeout(() => this.#connect(), Math.min(FIRST_RETRY_MS * 2 ** (this.#failures - 1), LAST_RETRY_MS));
    };
  }

  #tellLink(state, text) {
    this.#link.dataset.state = state;
    this.#link.textContent = text;
  }

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#show(strange(text));
    }
    const { event, data } = message ?? {};
    if (event === "echo") return this.#options.meter.end(data);
    if (event === "members") return this.#tellLink("open", `${data} here`);
    if (this.#options.kind === "guarded") return this.#obey(event, data);
    // The plain server passes on whatever anybody sends.
    const className = event === "announce" ? "announced" : "";
    if ((event === "say" || className) && typeof data?.text === "string" && Object.keys(data).every((key) => key === "name" || key === "text")) {
      return this.#show(line(data.name ?? "somebody", data.text, className));
    }
    this.#show(strange(text));
  }

  /** What the guarded server itself says. */
  #obey(event, data) {
    const { user } = this.#options;
    if (event === "welcome") this.#welcome(data);
    if (event === "policy") this.#options.onPolicy();
    if (event === "removed") this.#show(notice(`${data.user} removed: ${data.code}`));
    if (event === "said") this.#show(line(data.name, data.text, data.name === user ? "own" : ""));
    if (event === "announced") this.#show(line(data.name, data.text, "announced"));
  }

  #welcome({ said }) {
    this.#options.onPolicy();
    this.#list.replaceChildren();
    for (const { name, text } of said) this.#show(line(name, text, name === this.#options.user ? "own" : ""));
  }

  /** Shows an item with the next frame: a flood must not cost one layout for each message. */
  #show(item) {
    this.#waiting.push(item);
    if (this.#waiting.length > MOST_MESSAGES) this.#waiting.shift();
    if (this.#waiting.length > 1) return;
    // Hidden pages have no frames, but timers.
    setTimeout(() => {
      const list = this.#list;
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
      list.append(...this.#waiting.splice(0));
      while (list.childElementCount > MOST_MESSAGES) list.firstElementChild.remove();
      if (atEnd) list.scrollTop = list.scrollHeight;
    }, 16);
  }
}

function cut(text) {
  return text.length > MOST_LETTERS ? `${text.slice(0, MOST_LETTERS)}… (${text.length.toLocaleString("en")} characters)` : text;
}

function line(name, text, className = "") {
  const item = document.createElement("li");
  item.className = className;
  const by = document.createElement("b");
  by.textContent = cut(String(name));
  const said = document.createElement("bdi");
  said.textContent = cut(String(text));
  item.append(by, " ", said);
  return item;
}

function notice(text, className = "notice") {
  const item = document.createElement("li");
  item.className = className;
  item.textContent = text;
  return item;
}

const strange = (text) => notice(cut(text), "strange");
const binary = (data) => notice(`binary message, ${data.size} bytes`, "strange");

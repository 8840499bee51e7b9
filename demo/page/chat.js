// The chat: one connection that is kept up, and the messages that come over it.

const MOST_MESSAGES = 200;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
// As often refused in a row, the visit is over: the server has forgotten its token.
const MOST_RETRIES = 5;

const byId = (id) => document.getElementById(id);

/** Connects as `user` and stays connected; `tell(event, data)` hears what is not of the chat itself. */
export function startChat({ server, user, token }, tell) {
  const nameField = byId("name");
  const textField = byId("text");
  let socket;
  let failures = 0;
  let name = user;
  nameField.value = name;

  const emit = (event, data) => {
    if (socket.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify({ event, data }));
    return true;
  };

  function connect() {
    socket = new WebSocket(server, ["bearer", token]);
    socket.onopen = () => {
      failures = 0;
      showLink("open", `connected as ${user}`);
      emit("join", { name });
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      receive(message.event, message.data);
    };
    socket.onclose = ({ reason }) => {
      failures += 1;
      if (failures > MOST_RETRIES) return showLink("closed", "disconnected: reload the page");
      showLink("closed", reason ? `closed: ${reason}` : "reconnecting…");
      setTimeout(connect, Math.min(FIRST_RETRY_MS * 2 ** (failures - 1), LAST_RETRY_MS));
    };
  }

  function receive(event, data) {
    if (event === "welcome") {
      byId("said").replaceChildren();
      for (const said of data.said) showSaid(said, user);
    }
    if (event === "said") return showSaid(data, user);
    if (event === "members") return showMembers(data);
    tell(event, data);
  }

  byId("say-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    const text = textField.value.trim();
    if (text && emit("say", { text })) textField.value = "";
    textField.focus();
  });

  byId("name-form").addEventListener("submit", (submit) => {
    submit.preventDefault();
    // As the schema of `join` wants it: no control or format characters, no blank ends.
    name = nameField.value.replace(/\p{C}/gu, "").trim() || user;
    nameField.value = name;
    emit("join", { name });
    textField.focus();
  });

  followEnd(byId("said"));
  connect();
}

/** Keeps the end of a list in view, unless someone has scrolled away from it. */
function followEnd(list) {
  let atEnd = true;
  const follow = () => {
    if (atEnd) list.scrollTop = list.scrollHeight;
  };
  list.addEventListener("scroll", () => {
    atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  });
  new ResizeObserver(follow).observe(list);
  new MutationObserver(follow).observe(list, { childList: true });
}

function showLink(state, text) {
  byId("link").dataset.state = state;
  byId("link-text").textContent = text;
}

function showMembers(members) {
  const names = members.map(({ name }) => name);
  const shown = names.length > 4 ? [...names.slice(0, 3), `${names.length - 3} more`] : names;
  byId("members").textContent = `${names.length} here: ${shown.join(", ")}`;
}

function showSaid({ user, name, text, at_ms }, self) {
  const list = byId("said");
  const item = document.createElement("li");
  item.classList.toggle("own", user === self);
  const line = document.createElement("p");
  line.className = "by";
  line.append(part("bdi", name, "name"));
  if (name !== user) line.append(part("span", user, "user"));
  line.append(part("time", new Date(at_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
  item.append(line, part("p", text, "text"));
  item.lastChild.dir = "auto";
  list.append(item);
  while (list.childElementCount > MOST_MESSAGES) list.firstElementChild.remove();
}

function part(element, text, className = "") {
  const made = document.createElement(element);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

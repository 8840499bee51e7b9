// The policy in force, line by line; the line that a verdict comes from is marked.

const KEY = /^(\s*)("[^"]+")(:.*)$/;

export class PolicyView {
  #tls;
  #text = "";
  #list = document.getElementById("policy-lines");
  #hint = document.getElementById("policy-hint");
  #words = this.#hint.textContent;

  /** `tls`: the text of the policy with a certificate, on a second port. */
  constructor(tls) {
    this.#tls = tls;
  }

  /** The text in force. */
  get text() {
    return this.#text;
  }

  /** Asks for the policy that is in force now, and shows it. */
  async refresh() {
    this.show(await (await fetch("/policy")).json());
  }

  show({ policy, generation }) {
    document.getElementById("generation").textContent = `generation ${generation}`;
    if (policy === this.#text) return;
    this.#text = policy;
    this.#fill(policy);
  }

  /** Marks a line, counted from 1, and returns its text; `tls`: of the policy with a certificate. */
  mark(line, tls = false) {
    const text = tls ? this.#tls : this.#text;
    this.#fill(text);
    this.#hint.textContent = tls ? "The first policy on a second port, with one line more." : this.#words;
    const item = this.#list.children[line - 1];
    if (!item) return undefined;
    item.className = "marked";
    item.setAttribute("aria-current", "true");
    const { offsetTop, offsetHeight } = item;
    const list = this.#list;
    if (offsetTop < list.scrollTop || offsetTop + offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = offsetTop - 60;
    return text.split("\n")[line - 1].trim();
  }

  #fill(text) {
    this.#list.replaceChildren(...text.trimEnd().split("\n").map(item));
  }
}

function item(text) {
  const item = document.createElement("li");
  const code = document.createElement("code");
  const [, indent, key, rest] = KEY.exec(text) ?? [];
  if (key) {
    const name = document.createElement("span");
    name.className = "key";
    name.textContent = key;
    code.append(indent, name, rest);
  } else {
    code.textContent = text;
  }
  item.append(code);
  return item;
}

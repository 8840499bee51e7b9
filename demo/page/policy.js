// The policy, line by line as the server was started with it; the line that a verdict comes from is marked.

const KEY = /^(\s*)("[^"]+")(:.*)$/;

export class PolicyView {
  #setting;
  #list = document.getElementById("policy-lines");
  #hint = document.getElementById("policy-hint");
  #words = this.#hint.textContent;

  constructor(setting) {
    this.#setting = setting;
    this.#show(setting.policy);
  }

  /** Marks a line, counted from 1, and returns its text; `tls`: of the policy with a certificate. */
  mark(line, tls = false) {
    const text = tls ? this.#setting.tls_policy : this.#setting.policy;
    this.#show(text);
    this.#hint.textContent = tls ? "The same policy on a second port, with one line more." : this.#words;
    const item = this.#list.children[line - 1];
    if (!item) return undefined;
    item.className = "marked";
    item.setAttribute("aria-current", "true");
    const { offsetTop, offsetHeight } = item;
    const list = this.#list;
    if (offsetTop < list.scrollTop || offsetTop + offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = offsetTop - 60;
    return text.split("\n")[line - 1].trim();
  }

  #show(text) {
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

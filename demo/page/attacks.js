// The buttons. The program attacks, because a browser's WebSocket sends nothing that is malformed; only the foreign page is
// one that this browser loads. What is shown is what came back.

import { FACTS, facts, headline, isRefused, mark } from "./outcome.js";

const SIDES = ["guarded", "plain"];
const FOREIGN_PATIENCE_MS = 8000;
// Between two attacks in a row, so that eyes can follow.
const PAUSE_MS = 400;

const byId = (id) => document.getElementById(id);
const json = async (path, options) => (await fetch(path, options)).json();

export function startAttacks(setting, meters, policy) {
  const all = byId("attack-all");
  const rows = setting.attacks.map((attack) => new Row(attack));
  byId("attacks").append(...rows.map(({ element }) => element));
  all.textContent = `Run all ${rows.length}`;
  const buttons = [all, ...rows.map(({ button }) => button)];

  // One after the other: then it is clear whose verdict comes.
  async function attack(chosen) {
    for (const button of buttons) button.setAttribute("aria-disabled", "true");
    try {
      for (const row of chosen) {
        await row.attack(setting, meters, policy);
        if (row !== chosen.at(-1)) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    } finally {
      for (const button of buttons) button.removeAttribute("aria-disabled");
    }
  }
  const onPress = (button, chosen) =>
    button.addEventListener("click", () => {
      if (!button.hasAttribute("aria-disabled")) attack(chosen);
    });
  onPress(all, rows);
  for (const row of rows) onPress(row.button, [row]);
  followWidth();
}

class Row {
  #attack;
  #marks;

  constructor(attack) {
    this.#attack = attack;
    const row = byId("attack-row").content.cloneNode(true);
    this.element = row.querySelector("li");
    this.element.dataset.attack = attack.id;
    this.button = row.querySelector("button");
    row.querySelector(".title").textContent = attack.title;
    row.querySelector(".protection").textContent = attack.protection;
    this.#marks = Object.fromEntries(SIDES.map((side) => [side, row.querySelector(`[data-side=${side}]`)]));
  }

  async attack(setting, meters, policy) {
    choose(this.element, this.#attack);
    policy.mark(0);
    for (const side of SIDES) this.#tell(side, "running", "…");
    for (const side of SIDES) {
      const end = meters[side].mark();
      const report = await run(this.#attack, side, setting).finally(end);
      this.#tell(side, isRefused(report) ? "refused" : "through", mark(report));
      showSide(side, report);
      if (side === "guarded") showEvidence(report, policy);
    }
    const told = SIDES.map((side) => byId(`headline-${side}`).textContent);
    byId("announcement").textContent = `${this.#attack.title}. With policy: ${told[0]}. Without: ${told[1]}.`;
  }

  #tell(side, state, text) {
    const place = this.#marks[side];
    const who = side === "guarded" ? "with policy" : "without policy";
    place.dataset.state = state;
    place.dataset.word = text;
    const unseen = Object.assign(document.createElement("span"), { className: "unseen", textContent: `${who}: ` });
    place.replaceChildren(unseen, text);
  }
}

function run(attack, side, setting) {
  if (attack.id === "foreign-origin") return fromForeignPage(side, setting);
  return json(`/attack/${attack.id}/${side}`, { method: "POST" });
}

/** Loads the page of the foreign origin in a hidden frame and lets it try. */
async function fromForeignPage(side, { foreign, [side]: server }) {
  const before = await json("/journal");
  const began = performance.now();
  const seen = await inFrame(foreign, { kind: "attack", server });
  const ms = performance.now() - began;
  const verdict = side === "guarded" ? await json(`/journal/${before}`) : null;
  // A browser does not tell a page the status of a refused handshake: the server's verdict has it.
  const status = seen.opened ? null : (verdict?.http ?? 0);
  const { opened, close } = seen;
  const heard = opened ? seen.heard : undefined;
  return { connections: 1, upgraded: Number(opened), status, close, held: Number(opened && !close), heard, ms, verdict };
}

function inFrame(origin, order) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    const end = (result) => {
      clearTimeout(timer);
      removeEventListener("message", hear);
      frame.remove();
      resolve(result);
    };
    const timer = setTimeout(() => end({ opened: false }), FOREIGN_PATIENCE_MS);
    function hear({ origin: from, source, data }) {
      if (from !== origin || source !== frame.contentWindow) return;
      if (data.kind === "ready") frame.contentWindow.postMessage(order, origin);
      if (data.kind === "result") end(data);
    }
    addEventListener("message", hear);
    frame.hidden = true;
    frame.title = "a page of a foreign origin";
    frame.src = `${origin}/`;
    document.body.append(frame);
  });
}

/** Shows what an attack is, before it has brought anything. */
function choose(element, { title, protection, why, wire }) {
  for (const other of element.parentElement.children) other.classList.toggle("chosen", other === element);
  byId("result-title").textContent = title;
  byId("protection").textContent = protection;
  byId("why").textContent = why;
  byId("wire").querySelector("code").textContent = wire;
  byId("intro").hidden = true;
  for (const id of ["protection", "wire", "sides", "evidence"]) byId(id).hidden = false;
  for (const side of SIDES) {
    byId("sides").dataset[side] = "running";
    byId(`headline-${side}`).textContent = "…";
  }
  byId("facts").replaceChildren();
  byId("policy-line").textContent = byId("record").textContent = "…";
  placeResult();
}

function showSide(side, report) {
  byId("sides").dataset[side] = isRefused(report) ? "refused" : "through";
  byId(`headline-${side}`).textContent = headline(report);
  for (const [name, value] of facts(report)) cell(name, side).textContent = value;
}

/** The cell of a fact; its row is made where it has none yet. */
function cell(name, side) {
  const body = byId("facts");
  let row = [...body.rows].find(({ dataset }) => dataset.fact === name);
  if (!row) {
    row = document.createElement("tr");
    row.dataset.fact = name;
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    const cells = SIDES.map((of) => {
      const made = Object.assign(document.createElement("td"), { textContent: "–" });
      made.dataset.side = of;
      return made;
    });
    row.append(head, ...cells);
    const after = [...body.rows].find(({ dataset }) => FACTS.indexOf(dataset.fact) > FACTS.indexOf(name));
    body.insertBefore(row, after ?? null);
  }
  return row.querySelector(`[data-side=${side}]`);
}

function showEvidence(report, policy) {
  const { verdict } = report;
  const line = verdict?.line;
  const text = policy.mark(line ?? 0, verdict?.tls);
  byId("policy-line").textContent = text ? `line ${line}: ${text}` : withoutLine(report);
  const record = verdict?.record?.replace(/^\S+\s+/, "") ?? "sampled: this address has had many of these records lately";
  byId("record").textContent = verdict || isRefused(report) ? record : "none";
}

function withoutLine(report) {
  const { verdict } = report;
  if (!verdict) return isRefused(report) ? "not told" : "none: this policy lets it in";
  return verdict.option ? `not stated: the default of ${verdict.option}` : "none needed: RFC 6455 itself forbids it";
}

// On a phone the result stands below the attack that was pressed, on a laptop beside all of them.
const narrow = matchMedia("(max-width: 899px)");

function placeResult() {
  const result = byId("result");
  const chosen = document.querySelector(".attacks .chosen");
  if (narrow.matches && chosen) chosen.append(result);
  else byId("middle").append(result);
}

function followWidth() {
  narrow.addEventListener("change", placeResult);
}

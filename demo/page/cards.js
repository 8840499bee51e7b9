// One card per attack: its button, what the browser saw, and what the server recorded.

import { ATTACKS } from "./attacks.js";

// How long a verdict may take to arrive over the chat's connection.
const PATIENCE_MS = 8000;

/** Shows the cards; `target` is whom and as whom to attack, `verdicts` where the server's records arrive. */
export function startCards(target, verdicts) {
  const all = document.getElementById("attack-all");
  const cards = ATTACKS.map((attack) => new Card(attack, target));
  document.getElementById("cards").append(...cards.map(({ element }) => element));

  const buttons = [all, ...cards.map(({ button }) => button)];
  // One after the other: then it is clear whose verdict comes.
  async function attack(chosen) {
    for (const button of buttons) button.setAttribute("aria-disabled", "true");
    for (const card of chosen) await card.attack(target, verdicts);
    for (const button of buttons) button.removeAttribute("aria-disabled");
  }
  const onPress = (button, chosen) =>
    button.addEventListener("click", () => {
      if (!button.hasAttribute("aria-disabled")) attack(chosen);
    });
  onPress(all, cards);
  for (const card of cards) onPress(card.button, [card]);
}

class Card {
  constructor(attack, target) {
    const template = document.getElementById("card").content.cloneNode(true);
    const find = (selector) => template.querySelector(selector);
    this.plan = attack;
    this.element = find(".card");
    this.button = find("button");
    this.saw = find(".saw");
    this.recorded = find(".recorded");
    this.element.dataset.attack = attack.id;
    find("h3").textContent = attack.title;
    find("h3").id = `attack-${attack.id}`;
    this.button.setAttribute("aria-describedby", `attack-${attack.id}`);
    find(".why").textContent = attack.why;
    find(".wire").textContent = attack.wire(target);
  }

  async attack(target, verdicts) {
    this.element.dataset.state = "running";
    this.saw.textContent = this.recorded.textContent = "…";
    const { early } = this.plan;
    // Before the upgrade the server knows no user; after it, the verdict is on ours.
    const record = verdicts.next(({ user }) => user === (early ? null : target.user), PATIENCE_MS);
    const seen = await this.plan.run(target);
    this.saw.textContent = describe(seen);
    const verdict = await record;
    // Past the upgrade the browser sees the close code itself.
    this.recorded.textContent = !verdict ? "nothing" : early ? `${verdict.code} · ${verdict.answer}` : verdict.code;
    const refused = verdict !== undefined && !seen.stillOpen && (early ? !seen.opened : seen.code !== 1000);
    this.element.dataset.state = refused ? "refused" : "through";
  }
}

function describe({ opened, stillOpen, code, reason }) {
  if (stillOpen) return "nothing happened";
  if (!opened) return "refused before the upgrade";
  return reason ? `closed ${code} · ${reason}` : `closed ${code}`;
}

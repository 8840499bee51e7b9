// The server's records: its verdicts as they come, and its counters.

const MOST_VERDICTS = 60;

const byId = (id) => document.getElementById(id);

/** The panel, which other parts of the page can listen to. */
export function startVerdicts() {
  const list = byId("verdicts");
  const waiting = new Set();

  const show = (verdict) => {
    list.prepend(row(verdict));
    while (list.childElementCount > MOST_VERDICTS) list.lastElementChild.remove();
  };

  return {
    /** Shows the verdicts from before this page was there. */
    replay(verdicts) {
      list.replaceChildren();
      verdicts.forEach(show);
    },
    add(verdict) {
      show(verdict);
      for (const waiter of waiting) waiter(verdict);
    },
    count: showCounters,
    /** The next verdict that `matches`; `undefined` when none came in time. */
    next(matches, patience_ms) {
      return new Promise((resolve) => {
        const end = (verdict) => {
          clearTimeout(timer);
          waiting.delete(waiter);
          resolve(verdict);
        };
        const waiter = (verdict) => matches(verdict) && end(verdict);
        const timer = setTimeout(end, patience_ms);
        waiting.add(waiter);
      });
    },
  };
}

function row({ code, answer, user, event, at_ms }) {
  const item = document.createElement("li");
  item.dataset.code = code;
  const who = [user ?? "not let in", event && `event ${event}`].filter(Boolean).join(" · ");
  const parts = [
    ["code", code, "code"],
    ["span", answer, "answer"],
    ["span", who, "who"],
    ["time", new Date(at_ms).toLocaleTimeString([], { hour12: false }), "at"],
  ];
  for (const [element, text, className] of parts) {
    const made = document.createElement(element);
    made.textContent = text;
    made.className = className;
    item.append(made);
  }
  return item;
}

function showCounters({ open, messages, delayed, verdicts }) {
  const counts = Object.entries(verdicts).sort(([, a], [, b]) => b - a);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const tiles = { open, messages, delayed, verdicts: total };
  for (const [name, value] of Object.entries(tiles)) byId(`stat-${name}`).textContent = value.toLocaleString("en");
  const chips = counts.map(([code, count]) => {
    const chip = document.createElement("li");
    chip.dataset.count = code;
    chip.textContent = `${code} × ${count}`;
    return chip;
  });
  byId("counts").replaceChildren(...chips);
}

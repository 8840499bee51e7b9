// The editor: puts another text of the policy into force while both chats run, and shows what came of it.

const byId = (id) => document.getElementById(id);

/** `applied` is called when another policy has come into force. */
export function startEditor(first, policy, applied) {
  const editor = byId("editor");
  const text = byId("policy-text");
  const buttons = [byId("edit"), byId("restore"), ...editor.querySelectorAll("button")];

  function edit(on) {
    editor.hidden = !on;
    byId("policy-lines").hidden = on;
    if (!on) return byId("edit").focus();
    text.value = policy.text;
    text.focus();
    text.setSelectionRange(0, 0);
    text.scrollTop = 0;
  }

  async function apply(wanted) {
    for (const button of buttons) button.setAttribute("aria-disabled", "true");
    tell("running", "It is applied; an attack that runs is waited for…");
    try {
      const answer = await fetch("/policy", { method: "POST", body: wanted });
      if (!answer.ok) return tell("refused", (await answer.text()).trim(), "Nothing has changed.");
      const result = await answer.json();
      if (result.error) return tellRefusal(result);
      policy.show(result);
      tellResult(result);
      edit(false);
      applied();
    } catch {
      tell("refused", "The program has ended.");
    } finally {
      for (const button of buttons) button.removeAttribute("aria-disabled");
    }
  }

  const onPress = (button, act) => button.addEventListener("click", () => button.hasAttribute("aria-disabled") || act());
  onPress(byId("edit"), () => edit(true));
  onPress(byId("cancel"), () => edit(false));
  onPress(byId("restore"), () => apply(first));
  editor.addEventListener("submit", (submit) => {
    submit.preventDefault();
    if (!byId("edit").hasAttribute("aria-disabled")) apply(text.value);
  });
}

function tellResult({ generation, changes, before, after, closed }) {
  const changed = changes.map(({ option, before: old, after: now }) => `${option}: ${old} → ${now}`);
  const connections = `Open connections: ${before} before, ${after} after, ${closed} closed.`;
  tell("applied", `Generation ${generation} is in force.`, ...(changed.length ? changed : ["No option has changed."]), connections);
}

function tellRefusal({ generation, error, code }) {
  tell("refused", code, error, `Nothing has changed: generation ${generation} goes on.`);
}

/** The first line is the telling one. */
function tell(state, first, ...others) {
  const place = byId("reload");
  const line = (tag, text) => {
    const paragraph = document.createElement("p");
    paragraph.append(Object.assign(document.createElement(tag), { textContent: text }));
    return paragraph;
  };
  place.dataset.state = state;
  place.replaceChildren(line("b", first), ...others.map((text) => line("span", text)));
  place.hidden = false;
}

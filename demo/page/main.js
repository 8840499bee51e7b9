// Puts the page together. All that comes from outside is shown by `textContent` alone.

import { startAttacks } from "./attacks.js";
import { startEditor } from "./editor.js";
import { Meter, tellScale } from "./meter.js";
import { PolicyView } from "./policy.js";
import { Room } from "./room.js";

const byId = (id) => document.getElementById(id);

const setting = await (await fetch("/setting")).json();
const meters = {
  guarded: new Meter(byId("room-guarded").querySelector(".meter")),
  plain: new Meter(byId("room-plain").querySelector(".meter")),
};
const policy = new PolicyView(setting.tls_policy);
await policy.refresh();
const rooms = Object.entries(meters).map(
  ([kind, meter]) => new Room(byId(`room-${kind}`), { kind, server: setting[kind], user: setting.guest, meter, onPolicy: () => policy.refresh() }),
);
tellScale(meters);
startAttacks(setting, meters, policy);
startEditor(setting.first_policy, policy, () => {
  for (const room of rooms) room.retry();
});

byId("say-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const field = byId("text");
  const text = field.value.trim();
  if (text && rooms.map((room) => room.say(text)).some(Boolean)) field.value = "";
  field.focus();
});

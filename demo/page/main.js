// Puts the page together. All that comes from outside is shown by `textContent` alone.

import { startAttacks } from "./attacks.js";
import { Meter, tellScale } from "./meter.js";
import { PolicyView } from "./policy.js";
import { Room } from "./room.js";

const byId = (id) => document.getElementById(id);

const setting = await (await fetch("/setting")).json();
const meters = {
  guarded: new Meter(byId("room-guarded").querySelector(".meter")),
  plain: new Meter(byId("room-plain").querySelector(".meter")),
};
const rooms = Object.entries(meters).map(
  ([kind, meter]) => new Room(byId(`room-${kind}`), { kind, server: setting[kind], user: setting.guest, meter }),
);
tellScale(meters);
startAttacks(setting, meters, new PolicyView(setting));

byId("say-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const field = byId("text");
  const text = field.value.trim();
  if (text && rooms.map((room) => room.say(text)).some(Boolean)) field.value = "";
  field.focus();
});

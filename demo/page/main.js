// Puts the three panels together. All that comes from outside is shown by `textContent` alone.

import { startChat } from "./chat.js";
import { startCards } from "./cards.js";
import { startVerdicts } from "./verdicts.js";

const { server, foreign, guest, guestToken, intruder, intruderToken } = document.body.dataset;

const verdicts = startVerdicts();
startCards({ server, foreign, user: intruder, token: intruderToken }, verdicts);
startChat({ server, user: guest, token: guestToken }, (event, data) => {
  if (event === "welcome") {
    verdicts.replay(data.verdicts);
    verdicts.count(data.stats);
  } else if (event === "verdict") {
    verdicts.add(data);
  } else if (event === "stats") {
    verdicts.count(data);
  }
});

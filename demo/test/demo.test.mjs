// The demo as a stranger meets it: two windows of a real browser, every attack on both servers, the policy edited while both
// chats run, and an end by Ctrl-C.
//
//   WSGUARD_DEMO         the program (default: ../../target/debug/wsguard-demo)
//   WSGUARD_CHROMIUM     the browser (default: /usr/bin/chromium)
//   WSGUARD_SCREENSHOTS  where the screenshots go (default: a new temporary directory)

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PROGRAM = process.env.WSGUARD_DEMO ?? fileURLToPath(new URL("../../target/debug/wsguard-demo", import.meta.url));
const BROWSER = process.env.WSGUARD_CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.WSGUARD_SCREENSHOTS ?? mkdtempSync(join(tmpdir(), "wsguard-demo-"));
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const PATIENCE_MS = 30_000;

// What either server does: the verdict, the shortest word for it, its headline, the option whose line is marked (null: no
// option is needed); and the same without a policy. `facts` are measured numbers that must hold.
const bytes = (text) => Number.parseFloat(text.replace("+ ", "")) * { B: 1, KiB: 1024, MiB: 1024 ** 2 }[text.split(" ").at(-1)];
const count = (text) => Number.parseInt(text.replace(/,/g, ""), 10);
const ATTACKS = [
  {
    id: "foreign-origin", code: "origin_denied", mark: "403", headline: /^Refused before the upgrade: HTTP 403$/, option: "origins",
    plain: /^Let in: the page read [1-9]\d* messages? and spoke$/,
  },
  {
    id: "no-credential", code: "auth_failed", mark: "401", headline: /^Refused before the upgrade: HTTP 401$/, option: "auth",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
    facts: ({ line }) => assert.equal(line, '"auth": "callback",'),
  },
  {
    id: "moderators-path", code: "auth_failed", mark: "401", headline: /^Refused before the upgrade: HTTP 401$/, option: "auth",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
    facts: ({ line }) => assert.match(line, /^"auth": \{"tokens": \[/),
  },
  {
    id: "plaintext", code: "tls_failed", mark: "dropped", headline: /^Dropped before the upgrade$/, option: "tls",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
  },
  {
    id: "slow-handshake", times: 20, code: "handshake_timeout", mark: "408", headline: /^All 20 ended: HTTP 408$/,
    option: "handshake_timeout_ms", plain: /^All 20 still held after \d+\.\d s$/,
  },
  {
    id: "many-connections", times: 8, code: "user_full", mark: "429", headline: /^4 let in, 8 refused: HTTP 429$/,
    option: "max_connections_per_user", plain: /^All 12 let in$/,
  },
  {
    id: "oversize", code: "message_too_big", mark: "1009", headline: /^Closed: 1009 message too big$/, option: "max_message_bytes",
    plain: /^Let in: 8\.0 MiB passed on to [1-9]\d* others?$/,
    facts({ guarded, plain }) {
      assert.equal(count(guarded["reached the app"]), 0);
      assert.ok(bytes(guarded["memory, peak"]) < 1024 ** 2, guarded["memory, peak"]);
      assert.ok(bytes(plain["memory, peak"]) > 8 * 1024 ** 2, plain["memory, peak"]);
    },
  },
  {
    id: "flood", code: "rate_limited", mark: "1008", headline: /^Closed: 1008 rate limit$/, option: "rate_limit",
    plain: /^Let in: 1,000 messages, each to [1-9]\d* others?$/,
    facts({ guarded, plain }) {
      assert.ok(count(guarded["reached the app"]) < 60, guarded["reached the app"]);
      assert.equal(plain["reached the app"], "1,000 messages");
      assert.ok(count(plain["passed on"]) >= 2000, plain["passed on"]);
    },
  },
  {
    id: "ping-flood", code: "control_flood", mark: "1008", headline: /^Closed: 1008 control frame flood$/,
    option: "control_rate_limit", plain: /^Let in: [\d,]+ pings answered$/,
    facts: ({ plain }) => assert.ok(count(plain["pongs sent"]) > 100, plain["pongs sent"]),
  },
  {
    id: "unknown-event", code: "unknown_event", mark: "1008", headline: /^Closed: 1008 unknown event$/, option: "events",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
  },
  {
    id: "other-role", code: "event_denied", mark: "1008", headline: /^Closed: 1008 event denied$/, option: "announce",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
    facts: ({ line }) => assert.match(line, /^"announce": \{"roles": \["moderator"\]/),
  },
  {
    id: "wrong-schema", code: "schema_mismatch", mark: "1008", headline: /^Closed: 1008 schema mismatch$/, option: "text",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
  },
  {
    id: "proto-key", code: "bad_envelope", mark: "1008", headline: /^Closed: 1008 bad envelope$/, option: "protocol",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
  },
  {
    id: "deep-json", code: "bad_envelope", mark: "1008", headline: /^Closed: 1008 bad envelope$/, option: "json_limits",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
  },
  {
    id: "binary", code: "unexpected_binary", mark: "1003", headline: /^Closed: 1003 binary not accepted$/, option: "protocol",
    plain: /^Let in: passed on to [1-9]\d* others?$/,
  },
  {
    id: "unmasked", code: "bad_frame", mark: "1002", headline: /^Closed: 1002 bad frame$/, option: null,
    plain: /^Dropped$/, plainRefuses: true,
  },
];

/** What a browser writes to its console when a handshake is refused, which one of the attacks is meant to be. */
const EXPECTED_ERROR = /^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/chat' failed: .*: 40[34]$/;

let demo;
let exited;
let url;
let output = "";
let browser;
const errors = [];
/** How many WebSockets each page has opened so far. */
const sockets = new Map();

before(async () => {
  demo = spawn(PROGRAM, [], { stdio: ["ignore", "pipe", "pipe"] });
  demo.stderr.on("data", (data) => (output += data));
  exited = once(demo, "exit");
  url = await Promise.race([firstUrl(demo.stdout), exited.then(() => assert.fail(`the demo did not start: ${output}`))]);
  browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
});

after(async () => {
  await browser?.close();
  demo?.kill("SIGKILL");
});

async function firstUrl(lines) {
  for await (const line of createInterface({ input: lines })) {
    const found = /open (http:\/\/127\.0\.0\.1:\d+\/)/.exec(line);
    if (found) return found[1];
  }
  return assert.fail("the demo did not say what to open");
}

test("a parent that ends it by SIGTERM is obeyed, and a port that is taken is named", async () => {
  const child = spawn(PROGRAM, ["--port", "0"], { stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(child, "exit");
  const port = new URL(await firstUrl(child.stdout)).port;
  const second = spawn(PROGRAM, ["--port", port], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  second.stderr.on("data", (data) => (said += data));
  assert.equal((await once(second, "exit"))[0], 1);
  assert.match(said, new RegExp(`^the demo cannot start: cannot listen on 127\\.0\\.0\\.1:${port}: `));
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);
});

test("two processes are one chat: a message crosses, and limits are shared", async () => {
  const child = spawn(PROGRAM, ["--nodes", "2"], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = [];
  createInterface(child.stdout).on("line", (line) => lines.push(line));
  assert.deepEqual(await once(child, "exit"), [0, null]);
  const heard = lines.map((line) => /ben says hello on node (\d): heard on node (\d) after \d+ us$/.exec(line)).filter(Boolean);
  assert.deepEqual(heard.map(([, from, to]) => [from, to]), [["1", "2"], ["2", "1"]]);
  assert.equal(lines.filter((line) => /^ {2}ann has 4 connections, .* on node \d: HTTP 429$/.test(line)).length, 2);
  const passed = /: (\d+) \+ (\d+) = (\d+) messages passed; one server lets \d+ pass, several at most (\d+)$/.exec(lines.at(-1));
  const [first, second, sum, most] = passed.slice(1).map(Number);
  assert.ok(first > 0 && second > 0 && sum <= most && sum > most / 2, lines.at(-1));
});

/** A window of its own: another guest. */
async function visit(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => request.url().startsWith("http://127.0.0.1:") || errors.push(request.url()));
  sockets.set(page, 0);
  page.on("websocket", () => sockets.set(page, sockets.get(page) + 1));
  await page.goto(url);
  for (const room of ["guarded", "plain"]) await page.locator(`#room-${room} .link[data-state="open"]`).waitFor();
  return page;
}

async function say(page, text) {
  await page.getByLabel("Message to both chats").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

const heard = (page, room, text) => page.locator(`#room-${room} .said bdi`).getByText(text, { exact: true }).first().waitFor();
const meter = async (page, room, name) => count(await page.locator(`#room-${room} [data-value=${name}]`).textContent());

/** Presses an attack's button and waits for both outcomes. */
async function attack(page, id) {
  await page.locator(`[data-attack=${id}] .run`).click();
  for (const side of ["guarded", "plain"]) {
    await page.locator(`[data-attack=${id}] [data-side=${side}]:is([data-state=refused], [data-state=through])`).waitFor();
  }
  await page.locator("#attack-all:not([aria-disabled])").waitFor();
}

const factsOf = (page, side) =>
  page.locator(`#facts td[data-side=${side}]`).evaluateAll((cells) =>
    Object.fromEntries(cells.map((cell) => [cell.parentElement.dataset.fact, cell.textContent])),
  );

const policyOf = async (page) => (await page.locator("#policy-lines code").allTextContents()).join("\n");

const generationOf = async (page) => Number((await page.locator("#generation").textContent()).split(" ")[1]);

/** Does what brings another policy into force, and waits for it. */
async function renewed(page, act) {
  const next = (await generationOf(page)) + 1;
  await act();
  await page.locator("#generation").getByText(`generation ${next}`, { exact: true }).waitFor();
  await page.locator("#edit:not([aria-disabled])").waitFor();
}

/** Writes another policy and applies it. */
const edit = (page, change) =>
  renewed(page, async () => {
    await page.locator("#edit").click();
    const text = await page.locator("#policy-text").inputValue();
    const changed = change(text);
    assert.notEqual(changed, text);
    await page.locator("#policy-text").fill(changed);
    await page.getByRole("button", { name: "Apply" }).click();
  });

/** Goes back to the first policy, which is `first`. */
async function restore(page, first) {
  await renewed(page, () => page.getByRole("button", { name: "First policy" }).click());
  assert.equal(await policyOf(page), first);
}

const meterGoesOn = (page, before) =>
  page.waitForFunction(
    (least) => Number(document.querySelector("#room-guarded [data-value=answered]").textContent.replace(/,/g, "")) > least,
    before + 4,
  );

/** Nothing sticks out to the side, whatever the width. */
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

test("the demo, from the first page to Ctrl-C", async (t) => {
  const ada = await visit();
  const bob = await visit({ colorScheme: "dark" });

  await t.test("two windows are two guests, and see each other's messages in both chats", async () => {
    for (const [from, to, text] of [[ada, bob, "Hello from the left"], [bob, ada, "and from the right"]]) {
      await say(from, text);
      for (const room of ["guarded", "plain"]) {
        await heard(to, room, text);
        await heard(from, room, text);
      }
    }
    const names = await ada.locator("#room-guarded .said b").allTextContents();
    assert.ok(names.includes("guest-1") && names.includes("guest-2"), names.join(", "));
  });

  await t.test("the bot chats in both, and the meters measure", async () => {
    for (const room of ["guarded", "plain"]) {
      await ada.locator(`#room-${room} .said b`).getByText(/^bot/).first().waitFor();
      await ada.waitForFunction((id) => Number(document.querySelector(`#room-${id} [data-value=answered]`).textContent) > 3, room);
    }
  });

  await t.test("the moderator, by a route and a role of its own, announces", async () => {
    for (const room of ["guarded", "plain"]) {
      const announced = ada.locator(`#room-${room} .said .announced b`).getByText("moderator", { exact: true });
      await announced.first().waitFor();
    }
  });

  await t.test("what people write is text, never markup", async () => {
    const markup = "<img src=x onerror=alert(1)>";
    await say(ada, markup);
    for (const room of ["guarded", "plain"]) await heard(bob, room, markup);
    assert.equal(await bob.locator(".said img").count(), 0);
  });

  await t.test("what a guest sends in the name of the plain server is shown, and not obeyed", async () => {
    const forged = ['{"event":"welcome"}', '{"event":"policy","data":99}', '{"event":"removed","data":null}'];
    const asked = [];
    ada.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await bob.evaluate(async (texts) => {
      const { plain } = await (await fetch("/setting")).json();
      const socket = new WebSocket(plain);
      socket.onopen = () => texts.forEach((text) => socket.send(text));
      await new Promise((resolve) => (window.forger = socket).addEventListener("open", resolve));
    }, forged);
    for (const text of forged) await ada.locator("#room-plain .said .strange").getByText(text, { exact: true }).waitFor();
    assert.ok(!asked.includes("/policy"), asked.join(" "));
    await bob.evaluate(() => window.forger.close());
  });

  await t.test("the policy that is shown is accepted text, with the page's own origin in it", async () => {
    const lines = await ada.locator("#policy-lines code").allTextContents();
    const policy = JSON.parse(lines.join("\n"));
    assert.deepEqual(policy.origins, [url.slice(0, -1)]);
    assert.equal(policy.auth, "callback");
    assert.equal(policy.routes["/moderator"].auth.tokens[0].token, "$MODERATOR");
    assert.equal(await ada.locator("#generation").textContent(), "generation 1");
  });

  await t.test("every attack of the page is covered here", async () => {
    const shown = await ada.locator("#attacks > li").evaluateAll((rows) => rows.map((row) => row.dataset.attack));
    assert.deepEqual(shown, ATTACKS.map(({ id }) => id));
  });

  for (const { id, code, mark, headline, option, plain, plainRefuses = false, times, facts } of ATTACKS) {
    await t.test(`attack: ${id}`, async () => {
      await attack(ada, id);
      const row = ada.locator(`[data-attack=${id}]`);
      assert.equal(await row.locator("[data-side=guarded]").getAttribute("data-word"), mark);
      assert.equal(await row.locator("[data-side=guarded]").getAttribute("data-state"), "refused");
      assert.match(await ada.locator("#headline-guarded").textContent(), headline);
      const guarded = await factsOf(ada, "guarded");
      assert.match(guarded.verdict, new RegExp(`^${code}${times ? ` × ${times}` : ""}$`));
      assert.match(await ada.locator("#record").textContent(), new RegExp(`^WARN wsguard::verdict: code=${code} ip=127\\.0\\.0\\.1 `));
      // The same record stands in the program's own log.
      assert.ok(output.includes(await ada.locator("#record").textContent()));

      const marked = await ada.locator("#policy-lines .marked code").allTextContents();
      assert.deepEqual(marked.map((line) => line.trim().split('"')[1]), option === null ? [] : [option]);

      assert.match(await ada.locator("#headline-plain").textContent(), plain);
      assert.equal(await row.locator("[data-side=plain]").getAttribute("data-state"), plainRefuses ? "refused" : "through");
      assert.match(await ada.locator("#announcement").textContent(), /^.+\. With policy: .+\. Without: .+\.$/);
      facts?.({ guarded, plain: await factsOf(ada, "plain"), line: marked[0]?.trim() });
    });
  }

  await t.test("the foreign page comes with the visitor's cookie, added by the browser", async () => {
    const network = await ada.context().newCDPSession(ada);
    await network.send("Network.enable");
    const handshakes = [];
    network.on("Network.webSocketWillSendHandshakeRequest", ({ request }) => handshakes.push(request.headers));
    await attack(ada, "foreign-origin");
    const own = url.slice(0, -1);
    const toTheChat = handshakes.find(({ Host, Origin }) => own.endsWith(Host) && Origin !== own);
    assert.match(toTheChat?.Cookie ?? "", /^wsguard_demo=[0-9a-f]{32}$/);
    await network.detach();
  });

  await t.test("the guarded chat tells who was removed, and hears nothing of what was refused", async () => {
    const said = (await bob.locator("#room-guarded .said li").allTextContents()).join("\n");
    assert.match(said, /intruder-\d+ removed: unknown_event/);
    assert.doesNotMatch(said, /make_admin|I am the admin|another website|has moved/);
    const relayed = (await bob.locator("#room-plain .said li").allTextContents()).join("\n");
    assert.match(relayed, /make_admin/);
    assert.match(relayed, /This chat has moved/);
    assert.match(relayed, /binary message, 4 bytes/);
  });

  await t.test("the meter keeps running during a flood, and the chat goes on", async () => {
    const before = await meter(bob, "guarded", "answered");
    const flood = attack(ada, "flood");
    await say(bob, "still here");
    await heard(ada, "guarded", "still here");
    await flood;
    await meterGoesOn(bob, before);
    assert.equal(await bob.locator("#room-guarded .link").getAttribute("data-state"), "open");
    const points = (await bob.locator("#room-guarded polyline").getAttribute("points")).split(" ");
    assert.ok(points.length > 10, `${points.length} points`);
    assert.ok((await ada.locator("#room-guarded .bands rect").count()) > 0, "no attack is marked in the graph");
  });

  await t.test("another policy comes into force while both chats run, and the next attack meets it", async () => {
    const first = await policyOf(ada);
    const answered = await meter(ada, "guarded", "answered");
    const before = sockets.get(ada);
    await edit(ada, (text) => text.replace('"max_connections_per_user": 4', '"max_connections_per_user": 2').replace('"maxLength": 500', '"maxLength": 60'));
    const told = await ada.locator("#reload p").allTextContents();
    assert.equal(told[0], "Generation 2 is in force.");
    assert.ok(told.includes("max_connections_per_user: 4 → 2"), told.join("\n"));
    assert.ok(told.includes("events.say.schema.properties.text.maxLength: 500 → 60"), told.join("\n"));
    // Two guests, the bot and the moderator: whoever was there is there.
    assert.equal(told.at(-1), "Open connections: 4 before, 4 after, 0 closed.");
    // The other window shows it too.
    await bob.locator("#generation").getByText("generation 2", { exact: true }).waitFor();
    assert.equal(await policyOf(bob), await policyOf(ada));

    // The connections are the same ones: one that had ended would have had to come back.
    await meterGoesOn(ada, answered);
    assert.equal(sockets.get(ada), before);

    await attack(ada, "many-connections");
    assert.equal(await ada.locator("#headline-guarded").textContent(), "2 let in, 10 refused: HTTP 429");
    assert.equal(await ada.locator("#policy-line").textContent(), 'line 8: "max_connections_per_user": 2,');
    assert.equal(await ada.locator("#headline-plain").textContent(), "All 12 let in");

    // An open connection meets the new rule as well, and a guest within it is still heard.
    await say(bob, "within sixty");
    await heard(ada, "guarded", "within sixty");
    const long = "This is longer than sixty characters, which no line of the bots is.";
    await say(bob, long);
    await heard(ada, "plain", long);
    await ada.locator("#room-guarded .said .notice").getByText("guest-2 removed: schema_mismatch").waitFor();

    await restore(ada, first);
    await say(bob, long);
    await heard(ada, "guarded", long);
  });

  await t.test("a rule that is taken out is not enforced, and one that is gone from the policy is told as its default", async () => {
    const first = await policyOf(ada);
    await edit(ada, (text) => text.replace('"roles": ["moderator"], "schema"', '"schema"').replace(/.*"max_message_bytes".*\n/, ""));
    await attack(ada, "other-role");
    assert.match(await ada.locator("#headline-guarded").textContent(), /^Let in: passed on to [1-9]\d* others?$/);
    assert.equal(await ada.locator("#policy-line").textContent(), "none: this policy lets it in");
    assert.equal(await ada.locator("#record").textContent(), "none");
    assert.equal(await ada.locator("#policy-lines .marked").count(), 0);
    await ada.locator("#room-guarded .said .announced").getByText("This chat has moved").first().waitFor();
    await attack(ada, "oversize");
    assert.equal(await ada.locator("#policy-line").textContent(), "not stated: the default of max_message_bytes");
    await restore(ada, first);
  });

  await t.test("a foreign page whose origin is listed is let in, and held to the rest of the policy", async () => {
    const first = await policyOf(ada);
    const { foreign } = await ada.evaluate(async () => (await fetch("/setting")).json());
    const listed = (text) => text.replace('"origins": [', `"origins": ["${foreign}", `);
    await edit(ada, listed);
    await attack(ada, "foreign-origin");
    assert.equal(await ada.locator("#headline-guarded").textContent(), "Closed: 1008 schema mismatch");
    assert.equal((await factsOf(ada, "guarded")).verdict, "schema_mismatch");
    assert.match(await ada.locator("#policy-line").textContent(), /^line \d+: "say": /);
    await edit(ada, (text) => text.replace('"additionalProperties": false, ', ""));
    await attack(ada, "foreign-origin");
    assert.match(await ada.locator("#headline-guarded").textContent(), /^Let in: the page read [1-9]\d* messages? and spoke$/);
    assert.equal(await ada.locator("#policy-line").textContent(), "none: this policy lets it in");
    await restore(ada, first);
  });

  await t.test("a policy without authentication lets anybody in, and its other rules hold for them", async () => {
    const first = await policyOf(ada);
    await edit(ada, (text) => text.replace('"auth": "callback"', '"auth": "none"').replace('"additionalProperties": false, ', ""));
    await attack(ada, "no-credential");
    assert.match(await ada.locator("#headline-guarded").textContent(), /^Let in: passed on to [1-9]\d* others?$/);
    assert.equal((await factsOf(ada, "guarded"))["reached the app"], "1 message");
    assert.equal(await ada.locator("#policy-line").textContent(), "none: this policy lets it in");
    await ada.locator("#room-guarded .said b").getByText("nobody", { exact: true }).first().waitFor();
    await attack(ada, "unknown-event");
    assert.equal((await factsOf(ada, "guarded")).verdict, "unknown_event");
    assert.match(await ada.locator("#policy-line").textContent(), /^line \d+: "events": \{$/);
    await ada.locator("#room-guarded .said .notice").getByText("nobody removed: unknown_event").first().waitFor();
    // The moderators' path has an authentication of its own.
    await attack(ada, "moderators-path");
    assert.equal(await ada.locator("#headline-guarded").textContent(), "Refused before the upgrade: HTTP 401");
    await restore(ada, first);
  });

  await t.test("a moderator whose token is gone is put out, and comes back with it", async () => {
    const first = await policyOf(ada);
    await edit(ada, (text) => text.replace("$MODERATOR", "another-token-of-the-moderator"));
    await ada.locator("#reload").getByText(/^Open connections: 4 before, 3 after, 1 closed\.$/).waitFor();
    await ada.locator("#room-guarded .said .notice").getByText("moderator removed: session_revoked").waitFor();
    const announced = ada.locator("#room-guarded .said .announced b").getByText("moderator", { exact: true });
    const before = await announced.count();
    await restore(ada, first);
    await announced.nth(before).waitFor();
  });

  await t.test("a bad edit names its option, and changes nothing", async () => {
    const [before, generation] = [await policyOf(ada), await generationOf(ada)];
    const [answered, opened] = [await meter(ada, "guarded", "answered"), sockets.get(ada)];
    const bad = [
      [/"per_second": 10/, '"per_second": -1', "invalid_option", "rate_limit.per_second: "],
      [/"hosts"/, '"hostnames"', "unknown_option", "hostnames: "],
      [/"listen": ".*"/, '"listen": "127.0.0.1:1"', "not_reloadable", "listen: "],
      [/"auth": "callback",/, "", "missing_option", "auth: "],
      [/"auth": "callback"/, '"auth": {"jwt": {"algorithms": ["RS256"], "jwks_url": "https://issuer.example/"}}', "invalid_option", "auth.jwt: "],
      [/^\{/, "{{", "invalid_option", "options: "],
      [/^\{/, '{"tls": {"cert": "/etc/passwd", "key": "/etc/passwd"},', "invalid_option", "tls: "],
    ];
    await ada.locator("#edit").click();
    for (const [from, to, code, begin] of bad) {
      await ada.locator("#policy-text").fill(before.replace(from, to));
      await ada.getByRole("button", { name: "Apply" }).click();
      await ada.locator('#reload[data-state="refused"] b').getByText(code, { exact: true }).waitFor();
      await ada.locator("#edit:not([aria-disabled])").waitFor();
      const [, error, unchanged] = await ada.locator("#reload p").allTextContents();
      assert.ok(error.startsWith(begin), error);
      assert.equal(unchanged, `Nothing has changed: generation ${generation} goes on.`);
      await ada.screenshot({ path: join(SCREENSHOTS, `laptop-edit-${code}.png`) });
      await ada.locator("#reload").evaluate((place) => (place.hidden = true, place.dataset.state = ""));
    }
    // What was written is still there to be mended.
    assert.match(await ada.locator("#policy-text").inputValue(), /\/etc\/passwd/);
    await ada.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await policyOf(ada), before);
    assert.equal(await generationOf(ada), generation);
    await attack(ada, "many-connections");
    assert.equal(await ada.locator("#headline-guarded").textContent(), "4 let in, 8 refused: HTTP 429");
    await meterGoesOn(ada, answered);
    assert.equal(sockets.get(ada), opened);
  });

  await t.test("a page that the policy has put out comes back with the first policy", async () => {
    const first = await policyOf(ada);
    await edit(ada, (text) => text.replace(/"paths": \[.*\]/, '"paths": ["/elsewhere"]'));
    await ada.locator("#room-guarded .link").getByText("disconnected: reload the page").waitFor();
    await attack(ada, "unknown-event");
    assert.equal(await ada.locator("#headline-guarded").textContent(), "Refused before the upgrade: HTTP 404");
    assert.equal(await ada.locator("#policy-lines .marked").textContent(), '  "paths": ["/elsewhere"],');
    await restore(ada, first);
    await ada.locator('#room-guarded .link[data-state="open"]').waitFor();
    await bob.reload();
    await bob.locator('#room-guarded .link[data-state="open"]').waitFor();
  });

  await t.test("the numbers of the guarded server are a page of their own", async () => {
    const response = await fetch(`${url}metrics`);
    const text = await response.text();
    assert.match(text, new RegExp(`^wsguard_policy_generation ${await generationOf(ada)}$`, "m"));
    assert.match(text, /^wsguard_reload_failures_total [1-9]\d*$/m);
    assert.match(text, /^wsguard_verdicts_total\{code="event_denied"\} [1-9]\d*$/m);
    assert.ok(text.endsWith("# EOF\n"));
  });

  await t.test("all attacks in a row, from a phone", async () => {
    const phone = await visit({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true });
    assert.ok(await fits(phone), "the page is wider than the phone");
    await phone.screenshot({ path: join(SCREENSHOTS, "phone-start.png") });
    await phone.getByRole("button", { name: `Run all ${ATTACKS.length}` }).tap();
    await phone.locator('.mark[data-side=guarded][data-state="refused"]').nth(ATTACKS.length - 1).waitFor();
    await phone.locator("#attack-all:not([aria-disabled])").waitFor();
    assert.ok(await fits(phone), "the page is wider than the phone");
    await phone.screenshot({ path: join(SCREENSHOTS, "phone.png"), fullPage: true });
    // What came of an attack stands below its button, in sight.
    await phone.locator("[data-attack=wrong-schema] .run").tap();
    await phone.locator('[data-attack=wrong-schema] #sides[data-plain="through"]').waitFor();
    await phone.screenshot({ path: join(SCREENSHOTS, "phone-result.png") });
    await phone.locator("#edit").tap();
    assert.ok(await fits(phone), "the editor is wider than the phone");
    await phone.screenshot({ path: join(SCREENSHOTS, "phone-edit.png") });
    await phone.context().close();
  });

  await t.test("it fits a laptop, and nothing jumps when an attack has ended", async () => {
    const heights = [];
    for (const id of ["flood", "many-connections", "oversize"]) {
      await attack(ada, id);
      heights.push(await ada.locator("#policy-lines").evaluate((list) => Math.round(list.getBoundingClientRect().top)));
    }
    assert.ok(Math.max(...heights) - Math.min(...heights) < 24, heights.join(", "));
    await attack(bob, "oversize");
    for (const [page, name] of [[ada, "laptop-light"], [bob, "laptop-dark"]]) {
      assert.ok(await fits(page), "the page is wider than the window");
      await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
    }
    t.diagnostic(`screenshots: ${SCREENSHOTS}`);
  });

  await t.test("the policy is the page's alone to change, and bounded", async () => {
    const { policy, generation } = await (await fetch(`${url}policy`)).json();
    const send = (headers, body = policy) => fetch(`${url}policy`, { method: "POST", headers, body });
    const own = { origin: url.slice(0, -1) };
    assert.equal((await send({ origin: "https://evil.example" })).status, 403);
    assert.equal((await send({ origin: "null" })).status, 403);
    assert.equal((await send({})).status, 403);
    assert.equal((await fetch(`${url}policy`, { headers: { "sec-fetch-mode": "cors", origin: "https://evil.example" } })).headers.get("access-control-allow-origin"), null);
    assert.equal((await send(own, " ".repeat(16 * 1024 + 1))).status, 413);
    assert.equal((await send(own, Buffer.from([0x7b, 0xff]))).status, 400);
    assert.equal((await (await fetch(`${url}policy`)).json()).generation, generation);
  });

  await t.test("the buttons are the page's alone", async () => {
    const ask = (headers) => fetch(`${url}attack/unknown-event/guarded`, { method: "POST", headers });
    assert.equal((await ask({ origin: "https://evil.example" })).status, 403);
    assert.equal((await ask({})).status, 403);
    assert.equal((await fetch(`${url}attack/nothing/guarded`, { method: "POST", headers: { origin: url.slice(0, -1) } })).status, 404);
  });

  await t.test("no error in a console but the refused handshakes", () => {
    assert.deepEqual(errors.filter((error) => !EXPECTED_ERROR.test(error)), []);
    // 403: two by the buttons, one by the phone. 404: the pages that the policy has put out.
    assert.equal(errors.filter((error) => error.endsWith(": 403")).length, 3, errors.join("\n"));
  });

  await t.test("Ctrl-C tells the open pages, and ends it", async () => {
    demo.kill("SIGINT");
    const [status, signal] = await exited;
    assert.deepEqual([status, signal], [0, null]);
    await ada.locator('#room-guarded .link[data-state="closed"]').waitFor();
  });
});

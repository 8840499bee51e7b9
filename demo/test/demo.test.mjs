// The demo as a stranger meets it: two windows of a real browser, every attack on both servers, and an end by Ctrl-C.
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
const EXPECTED_ERROR = /^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/chat' failed: .*403/;

let demo;
let exited;
let url;
let output = "";
let browser;
const errors = [];

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

/** A window of its own: another guest. */
async function visit(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => request.url().startsWith("http://127.0.0.1:") || errors.push(request.url()));
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

  await t.test("what people write is text, never markup", async () => {
    const markup = "<img src=x onerror=alert(1)>";
    await say(ada, markup);
    for (const room of ["guarded", "plain"]) await heard(bob, room, markup);
    assert.equal(await bob.locator(".said img").count(), 0);
  });

  await t.test("the policy that is shown is accepted text, with the page's own origin in it", async () => {
    const lines = await ada.locator("#policy-lines code").allTextContents();
    const policy = JSON.parse(lines.join("\n"));
    assert.deepEqual(policy.origins, [url.slice(0, -1)]);
    assert.equal(policy.auth, "callback");
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
      facts?.({ guarded, plain: await factsOf(ada, "plain") });
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
    assert.doesNotMatch(said, /make_admin|I am the admin|another website/);
    const relayed = (await bob.locator("#room-plain .said li").allTextContents()).join("\n");
    assert.match(relayed, /make_admin/);
    assert.match(relayed, /binary message, 4 bytes/);
  });

  await t.test("the meter keeps running during a flood, and the chat goes on", async () => {
    const before = await meter(bob, "guarded", "answered");
    const flood = attack(ada, "flood");
    await say(bob, "still here");
    await heard(ada, "guarded", "still here");
    await flood;
    await bob.waitForFunction(
      (least) => Number(document.querySelector("#room-guarded [data-value=answered]").textContent.replace(/,/g, "")) > least,
      before + 4,
    );
    assert.equal(await bob.locator("#room-guarded .link").getAttribute("data-state"), "open");
    const points = (await bob.locator("#room-guarded polyline").getAttribute("points")).split(" ");
    assert.ok(points.length > 10, `${points.length} points`);
    assert.ok((await ada.locator("#room-guarded .bands rect").count()) > 0, "no attack is marked in the graph");
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

  await t.test("the buttons are the page's alone", async () => {
    const ask = (headers) => fetch(`${url}attack/unknown-event/guarded`, { method: "POST", headers });
    assert.equal((await ask({ origin: "https://evil.example" })).status, 403);
    assert.equal((await ask({})).status, 403);
    assert.equal((await fetch(`${url}attack/nothing/guarded`, { method: "POST", headers: { origin: url.slice(0, -1) } })).status, 404);
  });

  await t.test("no error in a console but the refused handshakes", () => {
    assert.deepEqual(errors.filter((error) => !EXPECTED_ERROR.test(error)), []);
    // Two by the buttons, one by the phone.
    assert.equal(errors.length, 3, errors.join("\n"));
  });

  await t.test("Ctrl-C tells the open pages, and ends it", async () => {
    demo.kill("SIGINT");
    const [status, signal] = await exited;
    assert.deepEqual([status, signal], [0, null]);
    await ada.locator('#room-guarded .link[data-state="closed"]').waitFor();
  });
});

// The demo as a stranger meets it: two windows of a real browser, every attack, and an end by Ctrl-C.
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
const PATIENCE_MS = 20_000;

const EARLY = "refused before the upgrade";
const ATTACKS = [
  { id: "foreign-origin", code: "origin_denied", answer: "HTTP 403", saw: EARLY },
  { id: "no-token", code: "auth_failed", answer: "HTTP 401", saw: EARLY },
  { id: "oversize", code: "message_too_big", answer: "close 1009", saw: "closed 1009 · message too big" },
  { id: "flood", code: "rate_limited", answer: "close 1008", saw: "closed 1008 · rate limit" },
  { id: "malformed-json", code: "bad_envelope", answer: "close 1008", saw: "closed 1008 · bad envelope" },
  { id: "unknown-event", code: "unknown_event", answer: "close 1008", saw: "closed 1008 · unknown event" },
  { id: "wrong-schema", code: "schema_mismatch", answer: "close 1008", saw: "closed 1008 · schema mismatch" },
  { id: "proto-key", code: "bad_envelope", answer: "close 1008", saw: "closed 1008 · bad envelope" },
  { id: "binary-frame", code: "unexpected_binary", answer: "close 1003", saw: "closed 1003 · binary not accepted" },
];

/** What a browser writes to its console when a handshake is refused, which two of the attacks are meant to be. */
const EXPECTED_ERROR = /^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/' failed: .*(code: 403|HTTP Authentication failed.*)$/;

let demo;
let exited;
let url;
let browser;
const errors = [];

before(async () => {
  demo = spawn(PROGRAM, [], { stdio: ["ignore", "pipe", "ignore"] });
  exited = once(demo, "exit");
  url = await Promise.race([firstUrl(demo.stdout), exited.then(() => assert.fail("the demo did not start"))]);
  browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
});

after(async () => {
  await browser?.close();
  demo?.kill("SIGKILL");
});

async function firstUrl(output) {
  for await (const line of createInterface({ input: output })) {
    const found = /open (http:\/\/127\.0\.0\.1:\d+\/)/.exec(line);
    if (found) return found[1];
  }
  return assert.fail("the demo did not say what to open");
}

/** A window of its own: another guest. */
async function visit(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => request.url().startsWith("http://127.0.0.1:") || errors.push(request.url()));
  await page.goto(url);
  await page.locator('#link[data-state="open"]').waitFor();
  return page;
}

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

const heard = (page, text) => page.locator("#said .text").getByText(text, { exact: true }).waitFor();
const count = async (page, code) => Number((await page.locator(`[data-count=${code}]`).textContent()).split("×")[1]);

/** Nothing sticks out to the side, whatever the width. */
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

test("the demo, from the first page to Ctrl-C", async (t) => {
  const ada = await visit();
  const bob = await visit({ colorScheme: "dark" });

  await t.test("two windows are two guests, and see each other's messages", async () => {
    assert.notEqual(await ada.locator("#name").inputValue(), await bob.locator("#name").inputValue());
    await ada.getByLabel("Your name").fill("Ada");
    await ada.getByRole("button", { name: "Rename" }).click();
    await bob.getByText("2 here: Ada, guest-2").waitFor();
    await say(ada, "Hello from the left");
    await heard(bob, "Hello from the left");
    await say(bob, "and from the right");
    await heard(ada, "and from the right");
  });

  await t.test("what people write is text, never markup", async () => {
    const markup = "<img src=x onerror=alert(1)>";
    await say(ada, markup);
    await heard(bob, markup);
    assert.equal(await bob.locator("#said img").count(), 0);
  });

  for (const { id, code, answer, saw } of ATTACKS) {
    await t.test(`attack: ${id}`, async () => {
      const card = ada.locator(`[data-attack=${id}]`);
      const recorded = bob.locator("#verdicts li");
      const before = await recorded.count();
      await card.getByRole("button").click();
      await ada.locator(`[data-attack=${id}]:is([data-state=refused], [data-state=through])`).waitFor();
      assert.equal(await card.locator(".saw").textContent(), saw);
      assert.equal(await card.locator(".recorded").textContent(), saw === EARLY ? `${code} · ${answer}` : code);
      assert.equal(await card.getAttribute("data-state"), "refused");
      // The other window sees the same record.
      await recorded.nth(before).waitFor();
      assert.equal(await recorded.first().locator(".code").textContent(), code);
      assert.equal(await recorded.first().locator(".answer").textContent(), answer);
    });
  }

  await t.test("the counters agree", async () => {
    await bob.locator("#stat-verdicts").getByText(String(ATTACKS.length), { exact: true }).waitFor();
    assert.equal(await count(bob, "bad_envelope"), 2);
    assert.equal(await count(bob, "origin_denied"), 1);
  });

  await t.test("the chat goes on during a flood and after it", async () => {
    const flood = ada.locator("[data-attack=flood]");
    await flood.getByRole("button").click();
    await say(ada, "still here");
    await heard(bob, "still here");
    await ada.locator("[data-attack=flood][data-state=refused]").waitFor();
    await say(bob, "so am I");
    await heard(ada, "so am I");
    for (const page of [ada, bob]) {
      assert.equal(await page.locator("#link").getAttribute("data-state"), "open");
      assert.equal(await page.locator("#said").getByText("flood").count(), 0);
    }
  });

  await t.test("all attacks in a row, from a phone", async () => {
    const phone = await visit({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true });
    await heard(phone, "Hello from the left");
    await phone.getByRole("button", { name: "Run all nine" }).tap();
    await phone.locator(`.card[data-state=refused]`).nth(ATTACKS.length - 1).waitFor();
    assert.ok(await fits(phone), "the page is wider than the phone");
    await phone.screenshot({ path: join(SCREENSHOTS, "phone.png"), fullPage: true });
    await phone.context().close();
    await ada.getByText("2 here:").waitFor();
  });

  await t.test("it fits a laptop", async () => {
    await bob.setViewportSize({ width: 1280, height: 720 });
    for (const [page, name] of [[ada, "laptop-light"], [bob, "laptop-dark"]]) {
      assert.ok(await fits(page), "the page is wider than the window");
      await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
    }
    t.diagnostic(`screenshots: ${SCREENSHOTS}`);
  });

  await t.test("no error in a console but the refused handshakes", () => {
    assert.deepEqual(errors.filter((error) => !EXPECTED_ERROR.test(error)), []);
    // Two by the buttons, two by the phone.
    assert.equal(errors.length, 4, errors.join("\n"));
  });

  await t.test("Ctrl-C tells the open pages, and ends it", async () => {
    demo.kill("SIGINT");
    const [status, signal] = await exited;
    assert.deepEqual([status, signal], [0, null]);
    await ada.locator('#link[data-state="closed"]').waitFor();
  });
});

// Checks the built site in a headless Chromium: that each answer of docs/QUESTIONS.md is two clicks from the front page and that
// the search finds it, that no link is dead, that nothing is asked of another site, and that a phone shows every page.
//   node check/check.mjs SITE     WSGUARD_SCREENSHOTS=FOLDER keeps pictures, WSGUARD_CHROMIUM names another browser
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const SITE = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "../../../target/docs-site/html"));
const CHROMIUM = process.env.WSGUARD_CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/google-chrome"].find(existsSync);
const PICTURES = process.env.WSGUARD_SCREENSHOTS;
const LAPTOP = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const TYPES = {
  ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml",
};
// An answer has to be among so many pages that a search for its question finds, the list of questions aside.
const FOUND_AMONG = 5;

const pages = readdirSync(SITE, { recursive: true }).filter((name) => name.endsWith(".html") && !name.startsWith("rust/"));

const isFile = (path) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/** Every link and resource of the built pages: it exists, anchor included, and no resource is another site's. */
function checkLinks() {
  const wrong = [];
  const text = new Map(pages.map((name) => [name, readFileSync(join(SITE, name), "utf8")]));
  const idsOf = (html) => new Set([...html.matchAll(/\sid="?([^"\s>]+)/g)].map((found) => found[1]));
  const ids = new Map([...text].map(([name, html]) => [name, idsOf(html)]));
  for (const [name, html] of text) {
    for (const [, resource] of html.matchAll(/<(?:script|img|iframe|source)[^>]*\ssrc="?([^"\s>]+)/g)) {
      if (/^(https?:)?\/\//.test(resource)) wrong.push(`${name} loads ${resource}`);
    }
    for (const [, sheet] of html.matchAll(/<link[^>]*\shref="?([^"\s>]+)/g)) {
      if (/^(https?:)?\/\//.test(sheet)) wrong.push(`${name} loads ${sheet}`);
    }
    for (const [, link] of html.matchAll(/<a[^>]*\shref="?([^"\s>]+)/g)) {
      if (/^[a-z]+:/.test(link) || name === "404.html") continue;
      const [path, anchor] = link.replaceAll("&amp;", "&").split("#");
      const there = path === "" ? name : normalize(join(dirname(name), path));
      if (!isFile(join(SITE, there))) wrong.push(`${name}: ${link} leads to nothing`);
      else if (anchor && ids.has(there) && !ids.get(there).has(decodeURIComponent(anchor))) {
        wrong.push(`${name}: ${link} has no such anchor`);
      }
    }
  }
  assert.deepEqual(wrong.slice(0, 20), [], `${wrong.length} links are wrong`);
  return text.size;
}

/** Serves the site on a free port of this machine. */
function serve() {
  const server = createServer((request, response) => {
    const path = join(SITE, normalize(decodeURIComponent(new URL(request.url, "http://x").pathname)));
    if (!path.startsWith(SITE) || !existsSync(path) || extname(path) === "") return void response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(readFileSync(path));
  });
  return new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server)));
}

/** The questions with the page of each answer, as the site has them, and the words to search for, which are comments there. */
async function questions(page, base) {
  await page.goto(`${base}/docs/QUESTIONS.html`);
  return page.$$eval("article h3", (headings) => headings.map((heading) => {
    let words = null, answer = heading.nextSibling;
    for (; answer && answer.nodeName !== "P"; answer = answer.nextSibling) {
      words ??= answer.nodeType === Node.COMMENT_NODE ? /search: (.*?) *$/.exec(answer.data)?.[1] : null;
    }
    const links = [...(answer?.querySelectorAll("a[href]") ?? [])];
    return { text: heading.firstChild.textContent.trim(), words, href: links.at(-1)?.href ?? null };
  }));
}

/** The links of a page that a person sees without opening anything. */
async function visible(page, url) {
  await page.goto(url);
  return page.$$eval("a[href]", (links) => links.filter((link) => link.checkVisibility()).map((link) => link.href));
}

const bare = (url) => url.split("#")[0];

/** Page -> clicks from the front page, up to two, without the list of questions. */
async function reach(page, base) {
  const clicks = new Map([[`${base}/index.html`, 0]]);
  for (const depth of [1, 2]) {
    for (const from of [...clicks].filter(([, away]) => away === depth - 1).map(([url]) => url)) {
      if (from.endsWith("/QUESTIONS.html") || !from.startsWith(base)) continue;
      for (const to of await visible(page, from)) if (!clicks.has(bare(to))) clicks.set(bare(to), depth);
    }
  }
  return clicks;
}

/** The pages that the search finds for a text, best first. */
async function search(page, text) {
  const count = () => document.querySelector(".md-search-result__meta").textContent;
  await page.fill(".md-search__input", "");
  await page.press(".md-search__input", "Space"); // the field listens to keys: that it is empty, too
  await page.press(".md-search__input", "Backspace");
  const none = () => document.querySelectorAll(".md-search-result__item").length === 0;
  await page.waitForFunction(none, null, { timeout: 20_000 });
  await page.locator(".md-search__input").pressSequentially(text);
  await page.waitForFunction(() => document.querySelectorAll(".md-search-result__item").length > 0, null, { timeout: 20_000 });
  // It searches at each key: what it finds is the answer when it changes no more.
  for (let before = "", now = await page.evaluate(count); before !== now; now = await page.evaluate(count)) {
    before = now;
    await page.waitForTimeout(500);
  }
  return page.$$eval(".md-search-result__item > a", (links) => links.map((link) => link.href.split(/[?#]/)[0]));
}

async function checkQuestions(context, base) {
  const page = await context.newPage();
  const asked = await questions(page, base);
  assert.ok(asked.length >= 20, `docs/QUESTIONS.md has only ${asked.length} questions`);
  assert.deepEqual(asked.filter(({ href }) => !href?.startsWith(base)), [], "each answer is a page of the site");
  const fromFront = await visible(page, `${base}/index.html`);
  assert.ok(fromFront.map(bare).includes(`${base}/docs/QUESTIONS.html`), "the front page leads to the questions");
  const clicks = await reach(page, base);
  const far = asked.filter(({ href }) => !clicks.has(bare(href)));
  assert.deepEqual(far, [], "each answer's page is two clicks from the front page, also without the list of questions");
  await page.goto(`${base}/index.html`);
  await page.click(".md-search__input");
  const lost = [];
  for (const { text, words, href } of asked) {
    assert.ok(words, `${text}: a comment says what to search for`);
    const found = [...new Set(await search(page, words))].filter((url) => !url.endsWith("/QUESTIONS.html"));
    const first = found.slice(0, FOUND_AMONG);
    if (!first.includes(bare(href))) lost.push({ words, wanted: bare(href), found: first });
  }
  assert.deepEqual(lost, [], "the search finds each answer");
  await page.close();
  return { asked: asked.length, near: clicks.size };
}

/** On a phone no page is wider than the screen: tables and code scroll by themselves. */
async function checkPhone(context, base) {
  const page = await context.newPage();
  await page.setViewportSize(PHONE);
  const wide = [];
  for (const name of pages.filter((each) => !each.startsWith("source/"))) {
    await page.goto(`${base}/${name}`);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    if (width > PHONE.width) wide.push(`${name} is ${width} wide`);
    if (PICTURES) await picture(page, name, "phone");
  }
  assert.deepEqual(wide, [], "no page is wider than a phone");
  await page.setViewportSize(LAPTOP);
  for (const name of PICTURES ? pages.filter((each) => !each.startsWith("source/")) : []) {
    await page.goto(`${base}/${name}`);
    await picture(page, name, "laptop");
  }
  await page.close();
}

async function picture(page, name, on) {
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name.replaceAll("/", "-").replace(".html", "")}.${on}.png`) });
}

/** Opened from the disk, without a server: the search works there, too. */
async function checkFromDisk(browser) {
  const page = await browser.newPage();
  await page.goto(`file://${join(SITE, "index.html")}`);
  await page.click(".md-search__input");
  assert.ok((await search(page, "max_message_bytes")).length > 0, "the search works from the disk");
  await page.close();
}

const server = await serve();
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
try {
  const context = await browser.newContext({ viewport: LAPTOP });
  const strangers = new Set();
  context.on("request", (request) => {
    if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) strangers.add(request.url());
  });
  const count = checkLinks();
  const { asked, near } = await checkQuestions(context, base);
  await checkPhone(context, base);
  assert.deepEqual([...strangers], [], "nothing is asked of another site");
  await checkFromDisk(browser);
  console.log(`the site is well: ${count} pages, ${near} of them within two clicks; ${asked} questions answered there and found`);
} finally {
  await browser.close();
  server.close();
}

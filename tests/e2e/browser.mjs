// What the tests of pages share: a browser, waiting, and whoever made the servers and does what
// ask() says (driver.py). usage of a driver: X.mjs FOLDER FOLDER-FOR-SCREENSHOTS-OF-FAILURES
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const [dir, failures] = process.argv.slice(2);
const LIMIT_MS = 120_000; // of whatever is waited for: for what hangs
export const axeSource = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// ---- the servers --------------------------------------------------------------------------------

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export async function ask(what, args = null) {
  process.stdout.write(JSON.stringify({ do: what, args }) + "\n");
  const { value, done } = await answers.next();
  if (done) throw new Error("the mesh is gone");
  return JSON.parse(value).answer;
}
export const say = (text) => process.stdout.write(JSON.stringify({ do: "say", args: text }) + "\n");

// ---- the browser --------------------------------------------------------------------------------

/** Keys of servers that it believes without their root, as hashes; the others by its own roots. */
const keys = JSON.parse(process.env.HM_E2E_KEYS ?? "[]");
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  timeout: LIMIT_MS,
  args: ["--no-sandbox", ...(keys.length ? [`--ignore-certificate-errors-spki-list=${keys.join(",")}`] : [])],
});
let page; // the one that a failure is shown of
export const troubles = [];
/** What a test brings about on purpose: console messages that match it are no trouble. */
export const expected = { console: null };

export async function open(origin, hash = "#/", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin });
  const made = await context.newPage();
  made.setDefaultTimeout(LIMIT_MS);
  made.on("request", (r) => {
    if (new URL(r.url()).origin !== origin && !r.url().startsWith(`blob:${origin}`)) troubles.push(`a request to ${r.url()}`);
  });
  made.on("pageerror", (e) => troubles.push(`an uncaught error: ${e.message}`));
  made.on("console", (m) => {
    if ((m.type() === "error" || m.type() === "warning") && !expected.console?.test(m.text())) troubles.push(`console: ${m.text()} (${m.location().url})`);
  });
  await made.addInitScript(() => {
    window.headings = []; // all that were ever shown
    new MutationObserver(() => {
      const text = document.querySelector("h1")?.textContent;
      if (text && window.headings.at(-1) !== text) window.headings.push(text);
    }).observe(document, { childList: true, subtree: true });
  });
  const response = await made.goto(`${origin}/${hash}`);
  await made.evaluate(() => (window.stillTheSame = true));
  page = made;
  return { page: made, context, response };
}
export const close = ({ context }) => context.close();

export function assert(condition, what) {
  if (!condition) throw new Error(what);
}
export function assertEqual(have, want, what) {
  assert(JSON.stringify(have) === JSON.stringify(want), `${what}: ${JSON.stringify(have)}, not ${JSON.stringify(want)}`);
}

/** Waits until the function gives something true, and gives that. */
export async function until(what, f) {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const late = Date.now() > end; // and looked at once more then
    const value = await f();
    if (value) return value;
    if (late) throw new Error(`not within ${LIMIT_MS / 1000} s: ${what}`);
    await new Promise((r) => setTimeout(r, 40));
  }
}
export const text = (p, selector) => p.locator(selector).first().innerText();
export const count = (p, selector) => p.locator(selector).count();
export const number = async (p, selector) => Number((await text(p, selector)).replace(/[^0-9.]/g, ""));
export const go = async (p, hash, heading) => {
  // The page has begun with it, which shows by its being busy, before it is looked at.
  await p.evaluate((to) => new Promise((begun) => {
    const from = location.href;
    addEventListener("hashchange", () => begun(), { once: true });
    location.hash = to;
    if (location.href === from) begun();
  }), hash);
  await until(`${hash} is headed ${heading}`, async () => (await p.locator("main[aria-busy]").count()) === 0 && (await text(p, "h1")).includes(heading));
};
/** Whether the page at hand is wider than its window, when all that watches its width has drawn. */
export const tooWide = (p) => p.evaluate(async () => {
  for (let i = 0; i < 3; i++) await new Promise((drawn) => requestAnimationFrame(drawn));
  const [wide, inner] = [document.documentElement.scrollWidth, innerWidth];
  const out = () => [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > inner).map((e) => `${e.tagName}.${e.className}`);
  return wide <= inner ? "" : `${wide} wide in a window of ${inner}: ${out()}`;
});
export const row = (p, name) => p.locator("tbody tr").filter({ hasText: name });

// ---- a run --------------------------------------------------------------------------------------

/** Runs them in order; the screenshot of a failure has the driver's name. */
export async function run(name, tests) {
  let now = "";
  try {
    for (const [title, test] of Object.entries(tests)) {
      now = title;
      const began = Date.now();
      await test();
      assertEqual(troubles, [], "what the browser complained of");
      say(`${title} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    }
  } catch (e) {
    const shot = path.join(failures, `${name}-failure.png`);
    await page?.screenshot({ path: shot, fullPage: true }).catch(() => {});
    console.error(`${name}: FAILED: ${now}\n${e.stack}\nthe browser complained of: ${JSON.stringify(troubles)}\nscreenshot: ${shot}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
    process.stdin.destroy();
  }
}

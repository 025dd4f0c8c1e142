// Asks a node's API in Chromium, which may use nothing but QUIC for it, and prints what it saw.
// usage: h3.mjs HOST:PORT HASH-OF-THE-CERTIFICATE'S-KEY
import { chromium } from "playwright-core";

const [origin, key] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  timeout: 120_000,
  args: ["--no-sandbox", "--enable-quic", `--origin-to-force-quic-on=${origin}`, `--ignore-certificate-errors-spki-list=${key}`],
});
// The API's answers are no pages that may ask for more; here they must.
const context = await browser.newContext({ bypassCSP: true });
const page = await context.newPage();
page.setDefaultTimeout(120_000);
const response = await page.goto(`https://${origin}/healthz`);
const seen = { status: response.status(), text: await response.text() };
seen.protocol = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
seen.missing = await page.evaluate(async () => (await fetch("/v1/nothing")).status);
seen.parallel = await page.evaluate(async () => {
  await Promise.all(Array.from({ length: 50 }, async (_, i) => (await fetch(`/v1/assets?limit=${i + 1}`)).json()));
  const entries = () => performance.getEntriesByType("resource").filter((e) => e.name.includes("?limit="));
  while (entries().length < 50) await new Promise((later) => setTimeout(later, 50)); // an entry may come after its answer
  return entries().map((e) => e.nextHopProtocol);
});
seen.event = await page.evaluate(
  () => new Promise((done) => new EventSource("/v1/events").addEventListener("final", (e) => done(JSON.parse(e.data).type))),
);
console.log(JSON.stringify(seen));
await browser.close();

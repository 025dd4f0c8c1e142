// Asks a node's API in Chromium, which may use nothing but QUIC for it, and prints what it saw.
// usage: h3.mjs HOST:PORT HASH-OF-THE-CERTIFICATE'S-KEY
import { chromium } from "playwright-core";

const [origin, key] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--enable-quic", `--origin-to-force-quic-on=${origin}`, `--ignore-certificate-errors-spki-list=${key}`],
});
const page = await browser.newPage();
const response = await page.goto(`https://${origin}/healthz`);
const seen = { status: response.status(), text: await response.text() };
seen.protocol = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
seen.missing = (await page.goto(`https://${origin}/v1/nothing`)).status();
// Many at once, from a page whose policy lets nothing in: by the browser itself.
seen.parallel = await Promise.all(
  Array.from({ length: 50 }, async (_, i) => {
    const other = await browser.newPage();
    await other.goto(`https://${origin}/v1/assets?limit=${i + 1}`);
    const protocol = await other.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
    await other.close();
    return protocol;
  }),
);
console.log(JSON.stringify(seen));
await browser.close();

// Drives a node's page in Chromium; test_page.py has made the mesh and does what ask() says.
import fs from "node:fs";
import path from "node:path";
import { ask, assert, assertEqual, axeSource, close, count, dir, expected, go, number, open, row, run, text, tooWide, troubles, until } from "./browser.mjs";

const ORIGIN = "http://localhost:5173";
const openPage = (hash, options) => open(ORIGIN, hash, options);

// ---- tests --------------------------------------------------------------------------------------

const tests = {
  async "the page is served with headers that keep it to itself"() {
    const at = await openPage();
    const h = at.response.headers();
    assert(/default-src 'none'/.test(h["content-security-policy"]) && /frame-ancestors 'none'/.test(h["content-security-policy"]), h["content-security-policy"]);
    assert(!/unsafe|data:|\*/.test(h["content-security-policy"]), h["content-security-policy"]);
    assertEqual([h["x-content-type-options"], h["referrer-policy"]], ["nosniff", "no-referrer"], "headers");
    // The policy holds: an inline script does not run.
    await at.page.evaluate(() => {
      const s = document.createElement("script");
      s.textContent = "window.ran = true";
      document.head.append(s);
    });
    assert(!(await at.page.evaluate(() => window.ran)), "an inline script ran");
    await until("the refused script is told", () => troubles.some((t) => t.includes("Content Security Policy")));
    troubles.length = 0;
    await close(at);
  },

  async "four nodes, and figures that move without a reload"() {
    const at = await openPage();
    await until("four nodes are up", async () => (await count(at.page, "#nodes tbody tr")) === 4 && (await at.page.locator("#nodes .pill.good", { hasText: "up" }).count()) === 4);
    assertEqual(await at.page.locator("#nodes tbody tr td:first-child a").allInnerTexts(), ["node-1", "node-2", "node-3", "node-4"], "nodes");
    await until("nodes up", async () => (await text(at.page, "#figure-nodes")) === "4 of 4");
    await until("the mesh is healthy", async () => (await text(at.page, "#health")).startsWith("Healthy"));
    const height = await number(at.page, "#figure-height");
    await until("the height grows", async () => (await number(at.page, "#figure-height")) > height + 2);
    await until("a time to finality", async () => /^[0-9.,]+ (µs|ms|s)$/.test(await text(at.page, "#figure-finality")));
    await until("points in the chart", async () => (await count(at.page, "#chart .point")) > 0);
    // By the newest one's number: once the chart is full the number of points stays.
    const newest = async () => Number((await at.page.locator("#chart text", { hasText: /^block/ }).first().textContent()).replace(/[^0-9]/g, ""));
    const drawn = await newest();
    await until("the chart gets new blocks", async () => (await newest()) > drawn + 1);
    assert(/median [0-9.]+ (ms|s)/.test(await at.page.locator("#finality-chart").getAttribute("aria-label")), "the chart's name");
    assertEqual(await at.page.evaluate(() => window.headings), ["Mesh"], "what was shown, from the beginning");
    await until("the line is live", async () => /^live/.test(await text(at.page, "#line")));
    assert(await at.page.evaluate(() => window.stillTheSame), "the page was loaded again");
    await close(at);
  },

  async "an asset appears by itself, search finds it, its page has history and four proofs"() {
    const at = await openPage("#/assets");
    const p = at.page;
    await until("the list says that there is none", async () => (await text(p, "main")).includes("No assets yet"));
    await ask("register", { kind: "service", name: "first-service" });
    await until("the asset appears", async () => (await row(p, "first-service").count()) === 1);
    for (const name of ["alpha", "beta", "alphabet"]) await ask("register", { kind: "cpu", name });
    await until("all appear, newest first", async () => JSON.stringify(await p.locator("tbody td:first-child").allInnerTexts()) === JSON.stringify(["alphabet", "beta", "alpha", "first-service"]));
    await p.locator("#search").fill("ALPHA");
    await until("the search finds two", async () => (await count(p, "tbody tr")) === 2 && (await row(p, "beta").count()) === 0);
    assert(p.url().endsWith("#/assets?q=ALPHA"), p.url());
    const id = (await row(p, "alphabet").locator(".copy").getAttribute("data-copy")) ?? "";
    await p.locator("#search").fill(id.slice(0, 12));
    await until("the search finds it by its id", async () => (await count(p, "tbody tr")) === 1 && (await row(p, "alphabet").count()) === 1);
    await p.locator("#search").fill("no such thing");
    await until("nothing matches", async () => (await text(p, "main")).includes("No asset matches"));
    await p.locator("main a", { hasText: "Show all" }).click();
    await until("all are back, and the field is empty", async () => (await count(p, "tbody tr")) === 4 && (await p.locator("#search").inputValue()) === "");
    await p.locator("select[name=kind]").selectOption("service");
    await until("the filter holds", async () => (await count(p, "tbody tr")) === 1);

    await row(p, "first-service").locator("a").first().click();
    await until("its page", async () => (await text(p, "h1")) === "first-service");
    await until("one entry of history with four proofs", async () => (await count(p, "#history tbody tr")) === 1 && (await count(p, "#history .marks .pill.good")) === 4);
    const service = p.url().split("/").pop();
    await ask("state", { id: service, state: "maintenance" });
    await until("the change appears", async () => (await count(p, "#history tbody tr")) === 2 && (await text(p, ".page-head")).includes("maintenance"));
    await until("its proofs too", async () => (await count(p, "#history .marks .pill.good")) === 8);
    await p.locator("#history .marks").first().click();
    await until("the operation's page", async () => (await text(p, "h1")) === "Set state asset");
    assertEqual(await p.locator("[data-proof]").evaluateAll((all) => all.map((x) => x.dataset.proof)), ["space", "stake", "work", "time"], "proofs");
    assertEqual(await count(p, ".proof > .pill.good"), 4, "proofs that hold");
    assert((await count(p, ".checks li.good")) >= 10 && (await count(p, ".checks li.bad")) === 0, "checks");
    assert(await p.evaluate(() => window.stillTheSame), "the page was loaded again");
    await close(at);
  },

  async "content: where its chunks are, and the download"() {
    const file = path.join(dir, "content.bin");
    const bytes = Buffer.alloc(700_000, "hypermesh content ");
    fs.writeFileSync(file, bytes);
    await ask("cli", ["asset", "register", "--kind", "data", "--name", "backup/content.bin", "--policy", "public", "--file", file]);
    const at = await openPage("#/assets?q=content");
    const p = at.page;
    await row(p, "content.bin").locator("a").first().click();
    await until("its chunks", async () => (await count(p, ".placement li")) === 4);
    // A node that is slow is not waited for; then the page is made again.
    const [placed, said] = await until("an answer of each node", async () => {
      const seen = await p.evaluate(() => [[...document.querySelectorAll(".placement li span")].map((e) => e.innerText), document.querySelector("main").innerText]);
      if (seen[0].length && !seen[0].includes("no answer")) return seen;
      await p.evaluate(() => dispatchEvent(new HashChangeEvent("hashchange")));
      return until("it is made again", async () => (await count(p, "main[aria-busy]")) === 0).then(() => null);
    });
    const sum = placed.reduce((n, t) => n + Number(t.split(" of ")[0]), 0);
    assert(placed.every((t) => t.endsWith("of 3")) && sum >= 9, `each of 3 chunks on at least 3 nodes: ${placed}`);
    assert(/every chunk is on [34] nodes or more/.test(said), "the copies");
    await p.locator("#chunks summary").click();
    assertEqual(await count(p, "#chunks tbody tr"), 3, "chunks in the list");
    const download = p.waitForEvent("download");
    await p.locator("a[download]").click();
    const got = await download;
    assertEqual(got.suggestedFilename(), "content.bin", "file name");
    assert(fs.readFileSync(await got.path()).equals(bytes), "the download is not the content");
    // A list that is open stays open when the page looks again.
    await ask("register", { kind: "cpu", name: "something-else" });
    await ask("state", { id: p.url().split("/").pop(), state: "suspended" });
    await until("the page is fresh", async () => (await text(p, ".page-head")).includes("suspended"));
    assert(await p.locator("#chunks[open]").count(), "the list closed itself");
    const content = p.locator("main .copy").first();
    await content.click();
    const id = p.url().split("/").pop();
    await until("it is copied", async () => (await p.evaluate(() => navigator.clipboard.readText())) === id);
    await close(at);
  },

  async "blocks and operations"() {
    const at = await openPage("#/blocks");
    const p = at.page;
    await until("blocks", async () => (await count(p, "table[aria-label=Blocks] tbody tr")) > 10);
    const first = async () => number(p, "table[aria-label=Blocks] tbody tr td:first-child");
    const newest = await first();
    await until("newer blocks come", async () => (await first()) > newest + 1);
    await until("more than a page of them", async () => (await count(p, "#next")) === 1);
    // The newest one is read in the moment in which the next page is chosen: they go on.
    const then = await p.evaluate(() => {
      const shown = document.querySelector("table[aria-label=Blocks] tbody td").innerText;
      document.getElementById("next").click();
      return Number(shown.replace(/[^0-9]/g, ""));
    });
    await until("the page before", async () => (await text(p, "main")).includes("Older blocks") && (await first()) < then);
    await go(p, "#/operations", "Operations");
    await until("operations", async () => (await row(p, "Register asset").count()) >= 5);
    await row(p, "Register asset").locator("a").first().click();
    await until("one", async () => (await count(p, ".proof")) === 4);
    await p.locator(".facts a", { hasText: "#" }).first().click();
    await until("its block", async () => /^Block [0-9,]+$/.test(await text(p, "h1")) && (await row(p, "Register asset").count()) >= 1);
    const height = await number(p, "h1");
    await p.locator(".beside a").last().click();
    await until("the next block", async () => (await number(p, "h1")) === height + 1);
    const t = p.locator("main time").first();
    assert(/^\d{4}-\d\d-\d\dT/.test(await t.getAttribute("datetime")) && (await t.getAttribute("title")).includes(await t.getAttribute("datetime")), "exact times");
    await close(at);
  },

  async "names that lie or attack"() {
    const names = ['<img src=x onerror="window.attacked=1">', '"><script>window.attacked=1</script>', "javascript:window.attacked=1", "\u2028gnp.exe\u202f", "zero\u200bwidth", "w".repeat(255), "{{7*7}} ${7*7} %s", "שלום עולם", "&lt;b&gt;"];
    for (const name of names) await ask("register", { kind: "economic", name });
    const at = await openPage("#/assets?kind=economic");
    const p = at.page;
    const harmless = async (where) => {
      assert(!(await p.evaluate(() => window.attacked)), `${where}: a name ran`);
      assertEqual(await count(p, "main img, main script, main b"), 0, `${where}: elements from names`);
      assertEqual(await tooWide(p), "", where);
    };
    await until("all are there", async () => (await count(p, "tbody tr")) === names.length);
    await harmless("the list");
    const shown = (await p.locator("tbody td:first-child bdi").allInnerTexts()).reverse();
    for (const i of [0, 1, 2, 5, 6, 7, 8]) assertEqual(shown[i], names[i], "a name as it is");
    assertEqual([shown[3], shown[4]], ["U+2028gnp.exeU+202F", "zeroU+200Bwidth"], "hidden characters");
    await p.setViewportSize({ width: 390, height: 844 });
    await harmless("the list on a phone");
    for (const i of [0, 3, 5]) {
      await go(p, "#/assets?kind=economic", "Assets");
      await p.locator("tbody td:first-child a").nth(names.length - 1 - i).click();
      await until("its page", async () => (await count(p, "#history tbody tr")) === 1);
      await harmless("an asset");
      await p.locator("#history a").first().click();
      await until("its operation", async () => (await count(p, ".proof")) === 4);
      await harmless("an operation");
    }
    await close(at);
    // What a refused peer says is told in an event.
    const evil = await openPage("#/");
    await evil.page.route("**/v1/events", (r) =>
      r.fulfill({ contentType: "text/event-stream", body: ["evidence", "refused"].map((type, i) => `event: ${type}\nid: ${i + 1}\ndata: ${JSON.stringify({ seq: i + 1, wall_ms: Date.now(), type, height: 1, count: 0, finality_us: 0, hash: "0".repeat(64), peer: "0".repeat(64), text: "<img src=x onerror=window.attacked=1> \u202etxt" })}\n\n`).join("") }));
    await evil.page.goto(`${ORIGIN}/?again#/events`);
    await until("the events are shown", async () => (await count(evil.page, "#log li")) >= 2 && (await text(evil.page, "#log")).includes("<img src=x"));
    assert((await text(evil.page, "#log li.evidence")).includes("evidence") && (await text(evil.page, "#log")).includes("U+202E"), "the log");
    assert(!(await evil.page.evaluate(() => window.attacked)), "an event ran");
    await close(evil);
  },

  async "without a mouse"() {
    const at = await openPage();
    const p = at.page;
    const focused = () => p.evaluate(() => document.activeElement?.innerText || document.activeElement?.id || document.activeElement?.tagName);
    const visible = () => p.evaluate(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; });
    const press = async (...keys) => { for (const k of keys) await p.keyboard.press(k); };
    await until("nodes", async () => (await count(p, "#nodes tbody tr")) === 4);
    await press("Tab");
    assertEqual(await focused(), "Skip to content", "first stop");
    assert(await visible(), "focus on the skip link is not to be seen");
    await press("Enter");
    assertEqual(await p.evaluate(() => document.activeElement.id), "main", "skipped to");
    await p.evaluate(() => document.activeElement.blur());
    await p.reload();
    await until("nodes", async () => (await count(p, "#nodes tbody tr")) === 4);
    const stops = [];
    for (let i = 0; i < 12; i++) {
      await press("Tab");
      stops.push(await focused());
      assert(await visible(), `focus on ${stops.at(-1)} is not to be seen`);
    }
    for (const want of ["HyperMesh", "Mesh", "Assets", "Blocks", "Events", "node-1", "node-2"]) assert(stops.includes(want), `${want} is no stop: ${stops}`);
    // The chart.
    await until("the chart has blocks to read", async () => (await count(p, "#finality-chart circle")) >= 4);
    await p.locator("#finality-chart").focus();
    await press("ArrowLeft", "ArrowLeft");
    const reading = await until("the chart reads a block", async () => /^Block [0-9,]+: /.test(await text(p, ".chart-reading")) && (await text(p, ".chart-reading")));
    await press("ArrowLeft");
    assert((await text(p, ".chart-reading")) !== reading, "the arrow does nothing");
    const block = Number((await text(p, ".chart-reading")).match(/[0-9,]+/)[0].replaceAll(",", ""));
    await press("Enter");
    await until("that block's page", async () => (await number(p, "h1")) === block);
    assertEqual(await p.evaluate(() => document.activeElement.id), "main", "a new page is read from its top");
    // Search, from anywhere.
    await press("/");
    await until("the search field", async () => (await focused()) === "search");
    await p.keyboard.type("alph");
    await until("found", async () => p.url().endsWith("?q=alph") && (await count(p, "tbody tr")) === 2);
    assertEqual(await focused(), "search", "while typing");
    await press("ArrowDown");
    assertEqual(await focused(), "alphabet", "arrow down from the field");
    await press("ArrowDown");
    assertEqual(await focused(), "alpha", "arrow down");
    await press("ArrowUp");
    assertEqual(await focused(), "alphabet", "arrow up");
    await press("Enter");
    await until("the asset", async () => (await text(p, "h1")) === "alphabet");
    await p.goBack();
    await until("back at what was searched for", async () => (await count(p, "tbody tr")) === 2 && (await p.locator("#search").inputValue()) === "alph");
    await p.locator("#search").focus();
    await press("Escape");
    await until("escape clears it", async () => (await count(p, "tbody tr")) > 2 && (await p.locator("#search").inputValue()) === "");
    // What is refreshed keeps its focus.
    await go(p, "#/", "Mesh");
    await p.locator("#nodes a", { hasText: "node-3" }).focus();
    const height = await number(p, "#figure-height");
    await until("the page is refreshed", async () => (await number(p, "#figure-height")) > height + 1);
    assertEqual(await focused(), "node-3", "focus after refreshing");
    await press("Enter");
    await until("the node's page", async () => (await text(p, "h1")) === "node-3" && (await text(p, "main")).includes("in force"));
    await close(at);
  },

  async "a node is lost and comes back; a stranger is refused"() {
    const at = await openPage();
    const p = at.page;
    await until("nodes", async () => (await count(p, "#nodes .pill.good")) === 4);
    await ask("kill", 3);
    await until("the log says it", async () => (await p.locator("#log li.peer_down", { hasText: "node-3" }).count()) >= 1);
    await until("the table shows it", async () => /down|connecting|refused/.test(await row(p, "node-3").innerText()));
    await until("three are counted", async () => (await text(p, "#figure-nodes")) === "3 of 4");
    await until("the health is told", async () => (await text(p, "#health")).includes("1 node missing"));
    assert((await text(p, "#announce")).includes("node-3"), "it is not announced");
    const height = await number(p, "#figure-height");
    await until("the others go on", async () => (await number(p, "#figure-height")) > height + 2);
    await go(p, "#/events?kind=nodes", "Events");
    await until("among the events", async () => (await p.locator("#log li.peer_down", { hasText: "node-3" }).count()) >= 1);
    await ask("start", 3);
    await until("it is back", async () => (await p.locator("#log li", { hasText: "node-3" }).first().getAttribute("class")) === "peer_up");
    await go(p, "#/", "Mesh");
    await until("the table shows it", async () => (await count(p, "#nodes .pill.good")) === 4 && (await text(p, "#health")).startsWith("Healthy"));
    await ask("stranger");
    await until("a refusal is told", async () => (await count(p, "#log li.refused")) >= 1);
    assert(await p.evaluate(() => window.stillTheSame), "the page was loaded again");
    await close(at);
  },

  async "accessibility, in light and dark, wide and on a phone"() {
    for (const [options, widths] of [
      [{ colorScheme: "light" }, [1280]],
      [{ colorScheme: "dark", viewport: { width: 390, height: 844 } }, [390, 320]],
    ]) {
      const at = await openPage("#/assets", options);
      const p = at.page;
      await p.evaluate(axeSource);
      await until("assets", async () => (await count(p, "tbody tr")) > 3);
      const asset = (await row(p, "content.bin").locator("a").first().getAttribute("href"));
      await go(p, asset, "content.bin");
      const op = await until("history", () => p.locator("#history .marks").first().getAttribute("href"));
      const node = await until("a node", async () => (await p.locator(".placement a").first().getAttribute("href")));
      for (const [hash, heading] of [["#/", "Mesh"], ["#/assets?kind=economic", "Assets"], [asset, "content.bin"], ["#/blocks", "Blocks"], ["#/blocks/2", "Block 2"], ["#/operations", "Operations"], [op, "asset"], ["#/events", "Events"], [node, "node-"], ["#/nothing", "Not found"]]) {
        await go(p, hash, heading);
        if (hash === asset) await p.locator("#chunks summary").click();
        for (const width of widths) {
          await p.setViewportSize({ width, height: 900 });
          assertEqual(await tooWide(p), "", hash);
        }
        // In the dark only colours differ, and those pages have them all.
        if (options.colorScheme === "dark" && !["#/", asset, op].includes(hash)) continue;
        const { violations } = await p.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
        assertEqual(violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(" ")}`), [], `${hash}, ${JSON.stringify(options)}`);
      }
      await close(at);
    }
  },

  async "the node itself is gone, and comes back"() {
    const at = await openPage();
    const p = at.page;
    await until("live", async () => /^live/.test(await text(p, "#line")));
    expected.console = /^Failed to load resource: net::/;
    await ask("kill", 1);
    await until("the page says so", async () => (await p.locator("#outage").isVisible()) && (await text(p, "#outage")).includes("node-1 does not answer"));
    assert((await text(p, "#line")) === "no connection", await text(p, "#line"));
    assert((await count(p, "#nodes tbody tr")) === 4, "what was known is gone");
    await p.evaluate(() => (location.hash = "#/assets"));
    await until("another page says so too", async () => (await text(p, "h1")) === "No answer");
    const { violations } = await p.evaluate(axeSource).then(() => p.evaluate(() => axe.run(document, { resultTypes: ["violations"] })));
    assertEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`), [], "accessibility of the outage");
    await ask("start", 1);
    await until("it shows the assets by itself", async () => (await count(p, "tbody tr")) > 3);
    await until("the outage is over", async () => !(await p.locator("#outage").isVisible()) && /^live/.test(await text(p, "#line")));
    expected.console = null;
    await go(p, "#/", "Mesh");
    const height = await number(p, "#figure-height");
    await until("blocks become final", async () => (await number(p, "#figure-height")) > height + 1);
    assert(await p.evaluate(() => window.stillTheSame), "the page was loaded again");
    await close(at);
  },
};

await run("page", tests);

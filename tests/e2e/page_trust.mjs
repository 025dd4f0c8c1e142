// Drives the authority's page, and a node's zone editor, in Chromium; test_page_trust.py has made
// the mesh and does what ask() says.
import fs from "node:fs";
import { ask, assert, assertEqual, axeSource, close, count, expected, go, open, row, run, text, tooWide, troubles, until } from "./browser.mjs";

const AUTHORITY = "https://localhost:8443";
const NODE = "https://localhost:8444";
const openPage = (hash, options) => open(AUTHORITY, hash, options);
const REFUSED = /^Failed to load resource: the server responded with a status of 4/;
const PHONE = { width: 390, height: 844 };

/** While f runs, the server is expected to refuse something, which the browser tells as well. */
async function refused(f) {
  expected.console = REFUSED;
  await f();
  expected.console = null;
}
const outcome = (p, act) => p.locator(`form[data-act=${act}] .outcome`);
const submit = (p, act) => p.locator(`form[data-act=${act}] button[type=submit]`).click();
const says = (p, act, what) => until(`${act} says ${what}`, async () => (await outcome(p, act).innerText()).includes(what));
const fact = (p, name) => p.locator(".facts > div").filter({ has: p.locator(`dt:text-is("${name}")`) }).locator("dd").first().innerText();
async function give(p, token) {
  await go(p, "#/roles", "Roles");
  if (await p.locator("form[data-act=forget]").count()) await submit(p, "forget");
  await p.locator("form[data-act=token] input").fill(token);
  await submit(p, "token");
}
const flip = (hash) => (hash[0] === "0" ? "1" : "0") + hash.slice(1);
/** What the page is told by addresses that match, changed. In the page: the driver's own requests
 *  would know neither IPv6 names nor the root. */
async function tamper(p, pattern, change) {
  p.changes ??= [];
  if (p.changes.push([pattern, change]) > 1) return;
  if (!p.patched)
    await p.exposeFunction("tampered", (url, body) => p.changes.reduce((text, [at, f]) => (at.test(url) ? f(text) : text), body));
  p.patched = true;
  await p.evaluate(() => {
    const real = window.fetch;
    window.fetch = async (url, how) => {
      const r = await real(url, how);
      return /tile/.test(url) ? r : new Response(await window.tampered(url, await r.text()), { status: r.status, headers: r.headers });
    };
    window.untamper = () => (window.fetch = real);
  });
}
const tamperJson = (p, pattern, change) => tamper(p, pattern, (body) => JSON.stringify(change(JSON.parse(body))));
async function untamper(p) {
  await p.evaluate(() => window.untamper());
  p.changes.length = 0;
}

let web; // serial of a certificate for web.test
let early; // a checkpoint of long ago
let tokens;

const tests = {
  async "the authority serves it, with headers that keep it to itself"() {
    const at = await openPage();
    for (const origin of [AUTHORITY, NODE]) {
      const h = (await (origin === AUTHORITY ? at.response : await (await open(origin)).response).allHeaders());
      assert(/default-src 'none'/.test(h["content-security-policy"]) && /frame-ancestors 'none'/.test(h["content-security-policy"]), h["content-security-policy"]);
      assert(!/unsafe|data:|blob:|\*/.test(h["content-security-policy"]), h["content-security-policy"]);
    }
    await until("it is live", async () => (await text(at.page, "#line")) === "live · no token");
    assertEqual(await text(at.page, "h1"), "Certificates", "the first page");
    await close(at);
  },

  async "certificates: a new one appears by itself; search, family, paging"() {
    early = await ask("checkpoint");
    const at = await openPage();
    const p = at.page;
    // Four nodes and stoq with two each, and the authority's own.
    await until("what the mesh has", async () => (await count(p, "tbody tr")) === 11);
    [web] = await ask("issue", ["web.test"]);
    await until("a new one, first", async () => (await text(p, "tbody td")).includes("web.test"));
    await p.locator("#search").fill("web.te");
    await until("the search finds one", async () => (await count(p, "tbody tr")) === 1);
    await p.locator("#search").fill("=web.test");
    await until("by its whole name too", async () => p.url().includes("q=%3Dweb.test") && (await count(p, "tbody tr")) === 1);
    await p.locator("#search").fill("=web.tes");
    await until("a part is no whole name", async () => (await text(p, "main")).includes("No certificate matches"));
    await p.locator("#search").fill(web);
    await until("by its serial", async () => (await count(p, "tbody tr")) === 1 && (await row(p, "web.test").count()) === 1);
    await p.locator("#search").fill("");
    await p.locator("select[name=family]").selectOption("mesh");
    await until("one family", async () => (await count(p, "tbody tr")) === 5 && (await p.locator("tbody td:nth-child(2)").allInnerTexts()).every((t) => t === "mesh"));
    await p.locator("select[name=family]").selectOption("");
    await ask("issue", Array.from({ length: 45 }, (_, i) => `n${i}.test`));
    await until("a page of fifty", async () => (await count(p, "tbody tr")) === 50 && (await text(p, "tbody td")).includes("n44.test"));
    await p.locator("#next").click();
    await until("the rest", async () => (await count(p, "tbody tr")) === 7 && (await text(p, ".pager")).includes("End of the list"));
    assert(await p.evaluate(() => window.stillTheSame), "the page was loaded again");
    await close(at);
  },

  async "a certificate: its fields as OpenSSL reads them, its file, its place in the log"() {
    const { items } = await ask("get", "/v1/certificates?family=mesh&limit=1");
    for (const serial of [web, items[0].serial]) {
      const { certificate, family } = await ask("get", `/v1/certificates/${serial}`);
      const at = await openPage(`#/certificates/${serial}`);
      const p = at.page;
      await until("its proof", async () => (await count(p, "[data-proof=verified]")) === 1);
      const openssl = (await ask("fingerprint", certificate)).replaceAll(":", "").toLowerCase();
      assert(openssl.includes(await p.locator("#fields .facts > div", { hasText: "SHA-256" }).last().locator("code").innerText()), "the fingerprint");
      assert(openssl.includes(`serial=${serial}`), `the serial: ${openssl}`);
      assertEqual(await fact(p, "Family"), family, "the family");
      assert((await p.locator("section.card", { hasText: "Renew" }).innerText()).includes("hypermesh cert renew"), "how it is renewed");
      if (family === "edge") assertEqual([await fact(p, "Names"), await fact(p, "Key")], ["web.test", "elliptic curve P-256, 65 bytes"], "names, key");
      else assert(/^FALCON-1024, 1793 bytes$/.test(await fact(p, "Key")) && /hypermesh:node:/.test(await fact(p, "Names")), await fact(p, "Key"));
      const download = p.waitForEvent("download");
      await p.locator("#fields [data-save]").click();
      const got = await download;
      assertEqual([got.suggestedFilename(), fs.readFileSync(await got.path(), "utf8")], [`${serial}.crt`, certificate], "the file");
      // As many steps as a tree of this size needs for this entry, and a drawing of them.
      const index = Number((await fact(p, "Entry")).slice(1));
      const size = Number((await text(p, ".proof-path p")).match(/tree of ([0-9,]+)/)[1].replaceAll(",", ""));
      const { hashes } = await ask("get", `/v1/log/inclusion?index=${index}&size=${size}`);
      assertEqual([await count(p, ".tree .sibling"), await count(p, ".tree .root"), await count(p, ".tree .leaf")], [hashes.length, 1, 1], "boxes");
      assert(hashes.length >= 5 && /^Entry \d+ of \d+: .*: verified\.$/.test(await p.locator("svg.tree").getAttribute("aria-label")), "the drawing's name");
      await p.locator("#proof-hashes summary").click();
      for (const hash of hashes) assert((await text(p, ".hashes")).includes(hash), `${hash} is not among the hashes`);
      await close(at);
    }
  },

  async "what is not so is told: another proof, another certificate, another checkpoint"() {
    const at = await openPage(`#/certificates/${web}`);
    const p = at.page;
    await until("verified", async () => (await count(p, "[data-proof=verified]")) === 1);
    // What is shown is judged before the truth is told again, for the page asks again by itself.
    const checked = async (what, shown = async () => {}) => {
      await p.locator("#top a.brand").click();
      await until("the list", async () => (await text(p, "h1")) === "Certificates");
      await go(p, `#/certificates/${web}`, "web.test");
      await until(what, async () => (await count(p, "[data-proof=failed]")) === 1 && (await count(p, "[data-proof=verified]")) === 0);
      await shown();
      await untamper(p);
    };
    await tamperJson(p, /\/v1\/log\/inclusion/, (a) => ({ ...a, hashes: a.hashes.map((x, i) => (i === 2 ? flip(x) : x)) }));
    await checked("a changed hash", async () => assertEqual(await count(p, "svg.tree.bad"), 1, "the drawing of what fails"));
    await tamperJson(p, /\/v1\/log\/inclusion/, (a) => ({ ...a, hashes: a.hashes.slice(1) }));
    await checked("a hash too few");
    await tamperJson(p, /\/v1\/log\/inclusion/, (a) => ({ ...a, hashes: [...a.hashes, a.hashes[0]] }));
    await checked("a hash too many");
    // A byte of what the certificate says: the year of its end.
    await tamperJson(p, new RegExp(`/v1/certificates/${web}$`), (a) => {
      const der = Buffer.from(a.certificate.replace(/-----[^-]+-----/g, ""), "base64");
      const time = der.lastIndexOf(Buffer.from("Z"), der.indexOf("web.test"));
      der[time - 1] = der[time - 1] === 0x30 ? 0x31 : 0x30;
      return { ...a, certificate: `-----BEGIN CERTIFICATE-----\n${der.toString("base64")}\n-----END CERTIFICATE-----\n` };
    });
    await checked("a certificate that the log does not have");
    await tamper(p, /checkpoint$/, (note) => note.replace(/\n(\d+)\n/, (_, n) => `\n${Number(n) - 1}\n`));
    await checked("a checkpoint with another size", async () =>
      assert((await text(p, "#inclusion")).includes("signature does not hold"), await text(p, "#inclusion")));
    await close(at);
    // A checkpoint from before the entry is no lie.
    const late = await openPage();
    await tamper(late.page, /checkpoint$/, () => early);
    await go(late.page, `#/certificates/${web}`, "web.test");
    await until("not yet", async () => (await text(late.page, "[data-proof=early]")).includes("does not reach this entry yet"));
    await close(late);
  },

  async "issuing: without a token, with a wrong one, with a viewer's, and with an operator's"() {
    tokens = {};
    for (const [name, role] of [["vera", "viewer"], ["otto", "operator"]]) tokens[role] = await ask("make_token", { name, role });
    const at = await openPage("#/issue");
    const p = at.page;
    assert((await text(p, "#needs-token")).includes("of the role operator"), "that a token is needed");
    const csr = await ask("csr", "paste.test");
    const fill = async (what) => {
      await go(p, "#/issue", "Issue");
      await p.locator("textarea").fill(what);
      await submit(p, "issue");
    };
    await refused(async () => {
      await fill(csr);
      await says(p, "issue", "the bearer token is missing or wrong");
      await give(p, "0".repeat(64));
      await says(p, "token", "the bearer token is missing or wrong");
      assertEqual(await text(p, "#line"), "live · no token", "a wrong token is not kept");
      await give(p, tokens.viewer);
      await until("whose it is", async () => (await text(p, "#line")) === "live · vera, viewer");
      assertEqual([await fact(p, "Name"), await fact(p, "Role"), await count(p, "#mine .checks .good")], ["vera", "viewer", 1], "what it may");
      await fill(csr);
      await says(p, "issue", "the token vera has the role viewer, this needs operator");
      await give(p, tokens.operator);
      await until("whose it is", async () => (await text(p, "#line")) === "live · otto, operator");
      await fill("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----");
      await until("the server's reason", async () => (await outcome(p, "issue").getAttribute("class")).includes("bad") && (await outcome(p, "issue").innerText()).length > 20);
    });
    await refused(async () => {
      await p.locator("form[data-act=issue] [name=days]").fill("31");
      await fill(csr);
      await says(p, "issue", "a certificate of profile server lives for 2592000 s at most");
    });
    await p.locator("form[data-act=issue] [name=days]").fill("7");
    await fill(csr);
    await says(p, "issue", "Issued: paste.test");
    const { items: [made] } = await ask("get", "/v1/certificates?name=paste.test");
    const days = (made.not_after_ms - made.not_before_ms) / 86400_000;
    assert(days >= 7 && days < 7.1, `${days} days`);
    const chain = await p.locator("#issued pre").innerText();
    assert((await ask("verify", chain)).includes("OK"), "OpenSSL does not take the chain");
    await p.locator("#issued a").click();
    await until("its page", async () => (await text(p, "h1")) === "paste.test");
    await until("it is in the log, under a newer checkpoint", async () => (await count(p, "[data-proof=verified]")) === 1);
    assert(await p.evaluate(() => window.stillTheSame && localStorage.length + sessionStorage.length === 0 && document.cookie === ""), "something was kept in the browser");
    // What the tab had goes with it.
    await p.reload();
    await until("the token is gone", async () => (await text(p, "#line")) === "live · no token");
    await close(at);
  },

  async "revoking asks again, and is seen by all"() {
    const [serial] = await ask("issue", ["gone.test"]);
    const at = await openPage("#/roles");
    const p = at.page;
    const other = await open(AUTHORITY, `#/certificates/${serial}`);
    await give(p, tokens.viewer);
    await until("whose it is", async () => (await text(p, "#line")).includes("vera"));
    await go(p, `#/certificates/${serial}`, "gone.test");
    await submit(p, "revoke");
    assert(await p.locator("[name=sure]:invalid").count(), "it does not ask");
    assertEqual((await ask("get", `/v1/certificates/${serial}`)).state, "valid", "before it was asked");
    await p.locator("[name=sure]").check();
    await refused(async () => {
      await submit(p, "revoke");
      await says(p, "revoke", "this needs operator");
    });
    await give(p, tokens.operator);
    await until("whose it is", async () => (await text(p, "#line")).includes("otto"));
    await go(p, `#/certificates/${serial}`, "gone.test");
    await p.locator("select[name=reason]").selectOption("keyCompromise");
    await p.locator("[name=sure]").check();
    await submit(p, "revoke");
    await until("it is revoked", async () => (await text(p, ".page-head")).includes("revoked") && (await count(p, "form[data-act=revoke]")) === 0);
    assert((await fact(p, "Revoked")).includes("the key was stolen or lost"), await fact(p, "Revoked"));
    await until("another tab sees it by itself", async () => (await text(other.page, ".page-head")).includes("revoked"));
    const { state, reason } = await ask("get", `/v1/certificates/${serial}`);
    assertEqual([state, reason], ["revoked", "keyCompromise"], "what the authority says");
    await close(other);
    await close(at);
  },

  async "the log: checkpoint, entries, one size continues another"() {
    const at = await openPage("#/log");
    const p = at.page;
    await until("the checkpoint holds", async () => (await p.locator("#checkpoint .pill.good").count()) === 2);
    const size = Number(await text(p, "#log-size"));
    assert(size >= 58, `${size} entries`);
    assertEqual(await text(p, "tbody td"), `#${size - 1}`, "the newest entry");
    const [, n, root] = early.split("\n");
    const check = async (from, to, noted = "") => {
      for (const [name, value] of [["from", from], ["to", to], ["root", noted]]) await p.locator(`form[data-act=consistency] [name=${name}]`).fill(String(value));
      await outcome(p, "consistency").evaluate((e) => e.replaceChildren());
      await submit(p, "consistency");
    };
    for (const from of [1, 2, 7, 32, 33, size - 1, size]) {
      await check(from, size);
      await says(p, "consistency", `begins with that of ${from}.`);
      assert((await outcome(p, "consistency").innerText()).includes("second root is the signed one"), "the signed root");
    }
    await check(3, 40);
    await says(p, "consistency", "The tree of 40 begins with that of 3.");
    // The root of a checkpoint that was signed long ago, against what the tiles give now.
    await check(n, size, root);
    await says(p, "consistency", "The root that you noted is the first one's");
    await check(n, size, Buffer.from(root, "base64").toString("hex"));
    await says(p, "consistency", "The root that you noted is the first one's");
    await check(Number(n) - 1, size, root);
    await says(p, "consistency", "not the one that you noted");
    await check(0, size);
    await says(p, "consistency", "Sizes are from 1");
    await tamperJson(p, /consistency/, (a) => ({ ...a, hashes: a.hashes.map((x, i) => (i === 1 ? flip(x) : x)) }));
    await check(7, size);
    await says(p, "consistency", "Failed: the proof does not lead");
    await untamper(p);
    // It grows while it is looked at.
    const [serial] = await ask("issue", ["later.test"]);
    await until("a newer checkpoint, which continues", async () => Number(await text(p, "#log-size")) === size + 1 && (await text(p, "#continues")).includes("verified"));
    await p.locator("#next").click();
    await until("older entries", async () => (await text(p, "main")).includes("Older entries") && (await count(p, "tbody tr")) === 32);
    await go(p, `#/log/${size}`, `Entry ${size}`);
    assertEqual([await fact(p, "Names"), await fact(p, "Certificate")], ["later.test", serial], "the entry");
    assertEqual(await count(p, "[data-proof=verified]"), 1, "its proof");
    await p.locator(".beside a").click();
    await until("the one before", async () => (await text(p, "h1")) === `Entry ${size - 1}`);
    await p.locator("a", { hasText: "‹ Log" }).click();
    await until("the log", async () => (await text(p, "h1")) === "Log");
    await p.locator("form[data-act=entry] input").fill("0");
    await submit(p, "entry");
    await until("the first entry", async () => (await text(p, "h1")) === "Entry 0" && (await count(p, "[data-proof=verified]")) === 1);
    await go(p, "#/log/999999", "Not found");
    // A log that was cut back: an old checkpoint is well signed, and no continuation.
    await go(p, "#/log", "Log");
    await tamper(p, /checkpoint$/, () => early);
    await until("it is told", async () => (await text(p, "#continues")).includes("failed"));
    await close(at);
  },

  async "the audit log: a chain, for who may read it"() {
    const at = await openPage("#/audit");
    const p = at.page;
    await until("a token is needed", async () => (await text(p, "#needs-token")).includes("viewer"));
    await give(p, tokens.viewer);
    await until("whose it is", async () => (await text(p, "#line")).includes("vera"));
    await go(p, "#/audit", "Audit log");
    await until("the newest lines", async () => (await count(p, "tbody tr")) === 50 && (await text(p, "#chain")).includes("verified"));
    assert((await row(p, "gone.test").allInnerTexts()).some((t) => t.includes("otto") && t.includes("certificate revoked")), "who revoked what");
    const { head } = await ask("get", "/v1/audit?limit=1");
    const check = async (noted) => {
      await p.locator("form[data-act=audit] input").fill(noted);
      await outcome(p, "audit").evaluate((e) => e.replaceChildren());
      await submit(p, "audit");
    };
    await check("");
    await says(p, "audit", `${head.n} lines, from the first to line ${head.n}`);
    await check(head.hash);
    await says(p, "audit", "the head that you noted is one of them");
    await check("ab".repeat(32));
    await says(p, "audit", "no line has the hash that you noted");
    await p.locator("#next").click();
    await until("older lines", async () => (await text(p, "main")).includes("Older acts") && (await text(p, "#chain")).includes("verified"));
    for (const [change, what] of [
      [(a) => a.replace('"who":"otto"', '"who":"vera"'), "it was changed"],
      [(a) => JSON.stringify((({ items, ...rest }) => ({ ...rest, items: items.filter((_, i) => i !== 3) }))(JSON.parse(a))), "is missing"],
    ]) {
      await tamper(p, /audit/, change);
      await go(p, "#/audit", "Audit log");
      await until(what, async () => (await text(p, "#chain")).includes("failed") && (await text(p, "#chain")).includes(what));
      await check("");
      await says(p, "audit", what);
      await untamper(p);
      await go(p, "#/roles", "Roles");
    }
    await close(at);
  },

  async "roles: all tokens for the authority, and one that is taken back"() {
    const at = await openPage("#/roles");
    const p = at.page;
    await give(p, tokens.operator);
    await until("whose it is", async () => (await text(p, "#line")).includes("otto"));
    assertEqual(await count(p, "table[aria-label=Tokens]"), 0, "no list for an operator");
    const all = await ask("make_token", { name: "anna", role: "authority" });
    await give(p, all);
    await until("all tokens", async () => (await count(p, "table[aria-label=Tokens] tbody tr")) === 3);
    assertEqual(await p.locator("tbody td:first-child").allInnerTexts(), ["vera", "otto", "anna"], "names");
    assertEqual(await count(p, "#mine .checks .good"), 3, "what it may");
    await refused(async () => {
      await ask("remove_token", "anna");
      await until("it is taken no more", async () => (await text(p, "#line")) === "live · no token" && (await count(p, "form[data-act=token]")) === 1);
    });
    await close(at);
  },

  async "names: the plain address reads, the node's HTTPS address changes"() {
    const plain = await open("http://localhost:5173", "#/names");
    await until("it says where", async () => (await text(plain.page, "#reads-only")).includes("8444"));
    assertEqual(await count(plain.page, "form.act"), 0, "forms of an address that only reads");
    const at = await open(NODE, "#/names");
    const p = at.page;
    await until("none yet", async () => (await text(p, "main")).includes("No names yet"));
    const register = async (name, records) => {
      await p.locator("form[data-act=register] [name=name]").fill(name);
      await p.locator("form[data-act=register] [name=records]").fill(records);
      await submit(p, "register");
    };
    await refused(async () => {
      await register("www", "2001:db8::80");
      await says(p, "register", "the bearer token is missing or wrong");
      await p.locator("form[data-act=token] input").fill(await ask("node_token"));
      await submit(p, "token");
      await until("it has a token", async () => (await count(p, "form[data-act=forget]")) === 1);
    });
    await register("www", "2001:db8::80\n300 TXT v=1 <img src=x onerror=window.attacked=1>");
    await says(p, "register", "Registered www, final in");
    await until("it is in the list", async () => (await row(p, "www").innerText()).includes("published"));
    await until("the plain page has it too", async () => (await row(plain.page, "www").count()) === 1);
    await close(plain);
    await until("another node answers for it", async () => (await ask("dig", ["www.dev.internal", "AAAA"])) === "2001:db8::80\n");
    await register("x", "A 192.0.2.1");
    await says(p, "register", "Line 1: write [TTL] TYPE DATA");
    await refused(async () => {
      await register("www", "2001:db8::81");
      await until("the server's reason", async () => (await outcome(p, "register").getAttribute("class")).includes("bad") && !(await outcome(p, "register").innerText()).includes("Wait"));
    });
    await row(p, "www").locator("a").first().click();
    await until("its page", async () => (await text(p, "h1")) === "www.dev.internal" && (await count(p, "#records tbody tr")) === 2);
    assert((await text(p, "#records")).includes("<img src=x"), "the text as it is");
    // What it has goes back as it came: quotes do not grow.
    await submit(p, "records");
    await says(p, "records", "Changed, final in");
    await until("as before", async () => ((await ask("names"))[0].records.map((r) => r.data).join(" ")).includes('"v=1 <img src=x onerror=window.attacked=1>"'));
    assertEqual((await ask("names"))[0].records.length, 2, "records");
    await p.locator("form[data-act=records] textarea").fill("60 AAAA 2001:db8::82");
    await submit(p, "records");
    await until("the new records", async () => (await count(p, "#records tbody tr")) === 1 && (await text(p, "#records")).includes("2001:db8::82"));
    await until("they are answered", async () => (await ask("dig", ["www.dev.internal", "AAAA"])) === "2001:db8::82\n");
    const before = (await ask("names"))[0].expires_ms;
    await p.locator("form[data-act=renew] [name=days]").fill("500");
    await submit(p, "renew");
    await says(p, "renew", "Renewed, final in");
    assert((await ask("names"))[0].expires_ms > before + 100 * 86400_000, "500 days are more than 366");
    await p.locator("form[data-act=transfer] select").selectOption({ label: "node-2" });
    await p.locator("form[data-act=transfer] [name=sure]").check();
    await submit(p, "transfer");
    await until("it is node-2's", async () => (await fact(p, "Owner")) === "node-2");
    await refused(async () => {
      await submit(p, "records");
      await until("no longer this node's to change", async () => (await outcome(p, "records").getAttribute("class")).includes("bad"));
    });
    await go(p, "#/names", "Names");
    await register("gone", "2001:db8::9");
    await says(p, "register", "Registered gone");
    await p.locator("form[data-act=register] .outcome a").first().click();
    await until("its page", async () => (await text(p, "h1")) === "gone.dev.internal");
    await p.locator("form[data-act=retire] [name=sure]").check();
    await submit(p, "retire");
    await until("the list, without it", async () => (await text(p, "h1")) === "Names" && (await count(p, "tbody tr")) > 0 && (await row(p, "gone").count()) === 0);
    await until("the DNS has it no more", async () => (await ask("dig", ["gone.dev.internal", "AAAA"])) === "");
    assert(!(await p.evaluate(() => window.attacked)), "a record ran");
    await close(at);
  },

  async "names that lie or attack, on a phone"() {
    const evil = '<img src=x onerror="window.attacked=1">\u202egpj';
    const at = await openPage("#/roles", { viewport: PHONE });
    const p = at.page;
    await give(p, tokens.viewer);
    await until("whose it is", async () => (await text(p, "#line")).includes("vera"));
    await tamperJson(p, /certificates\?/, (a) => ({ ...a, items: a.items.map((c) => ({ ...c, subject: evil + "w".repeat(250) })) }));
    await tamperJson(p, new RegExp(`/v1/certificates/${web}$`), (a) => ({ ...a, subject: evil }));
    await tamperJson(p, /audit/, (a) => ({ ...a, items: a.items.map((e) => ({ ...e, who: evil, act: evil, detail: evil, subject: evil, from: evil, serial: evil })) }));
    for (const [hash, heading] of [["#/", "Certificates"], [`#/certificates/${web}`, "<img"], ["#/audit", "Audit log"]]) {
      await go(p, hash, heading);
      await until("it is shown", async () => (await text(p, "main")).includes("U+202E"));
      assertEqual([await count(p, "main img"), await p.evaluate(() => window.attacked ?? 0)], [0, 0], `${hash}: what a name did`);
      assertEqual(await tooWide(p), "", hash);
    }
    await close(at);
  },

  async "without a mouse"() {
    const at = await openPage();
    const p = at.page;
    const press = async (...keys) => { for (const k of keys) await p.keyboard.press(k); };
    const focused = () => p.evaluate(() => document.activeElement?.name || document.activeElement?.innerText || document.activeElement?.id);
    const visible = () => p.evaluate(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; });
    const tabTo = async (what) => {
      for (let i = 0; i < 40; i++) {
        if ((await focused()) === what) return assert(await visible(), `focus on ${what} is not to be seen`);
        await press("Tab");
      }
      throw new Error(`Tab does not come to ${what}`);
    };
    await until("certificates", async () => (await count(p, "tbody tr")) === 50);
    await press("/");
    await p.keyboard.type("web.test");
    await until("found", async () => p.url().endsWith("?q=web.test") && (await count(p, "tbody tr")) === 1);
    await press("ArrowDown", "Enter");
    await until("its page", async () => (await text(p, "h1")) === "web.test");
    await p.evaluate(() => document.getElementById("main").blur());
    await tabTo("Roles");
    await press("Enter");
    await until("roles", async () => (await text(p, "h1")) === "Roles");
    await tabTo("token");
    await p.keyboard.type(tokens.operator);
    await press("Enter");
    await until("whose it is", async () => (await text(p, "#line")).includes("otto"));
    await p.evaluate(() => (location.hash = "#/issue"));
    await until("issue", async () => (await text(p, "h1")).includes("Issue"));
    await tabTo("csr");
    await p.keyboard.insertText(await ask("csr", "keys.test"));
    await tabTo("Issue");
    await press("Enter");
    await says(p, "issue", "Issued: keys.test");
    // What is being typed stays when the page looks again.
    await go(p, `#/certificates/${web}`, "web.test");
    await tabTo("reason");
    await press("k"); // "the key ..." is none of its beginnings; the first that fits is taken
    await p.keyboard.press("ArrowDown");
    const chosen = await p.locator("select[name=reason]").inputValue();
    let asked = 0;
    p.on("response", (r) => { if (r.url().endsWith("/log/checkpoint")) asked++; });
    await until("it looked twice", () => asked >= 2);
    assertEqual([await p.locator("select[name=reason]").inputValue(), await focused()], [chosen, "reason"], "what was chosen");
    await close(at);
  },

  async "accessibility, in light and dark, wide and on a phone"() {
    const pages = [["#/?q=web.test", "Certificates"], [`#/certificates/${web}`, "web.test"], ["#/issue", "Issue"], ["#/log", "Log"], ["#/log/5", "Entry 5"], ["#/audit", "Audit log"], ["#/roles", "Roles"], ["#/nothing", "Not found"]];
    const look = async (p, hash, widths, options) => {
      for (const width of widths) {
        await p.setViewportSize({ width, height: 900 });
        assertEqual(await tooWide(p), "", hash);
      }
      // In the dark only colours differ, and those pages have them all.
      if (options.colorScheme === "dark" && !/certificates|issue|roles/.test(hash)) return;
      const { violations } = await p.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      assertEqual(violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(" ")}`), [], `${hash}, ${JSON.stringify(options)}`);
    };
    for (const [options, widths] of [
      [{ colorScheme: "light" }, [1280]],
      [{ colorScheme: "dark", viewport: PHONE }, [390, 320]],
    ]) {
      const at = await openPage("#/roles", options);
      const p = at.page;
      await p.evaluate(axeSource);
      await give(p, tokens.operator);
      await until("whose it is", async () => (await text(p, "#line")).includes("otto"));
      for (const [hash, heading] of pages) {
        await go(p, hash, heading);
        await look(p, hash, widths, options);
      }
      await close(at);
      const node = await open(NODE, "#/names", options);
      await node.page.evaluate(axeSource);
      for (const [hash, heading] of [["#/names", "Names"], ["#/names/www", "www.dev.internal"]]) {
        await go(node.page, hash, heading);
        await look(node.page, hash, widths, options);
      }
      await close(node);
    }
  },

  async "the authority is gone, and comes back"() {
    const at = await openPage();
    const p = at.page;
    await until("live", async () => (await text(p, "#line")).startsWith("live"));
    expected.console = /^Failed to load resource: net::/;
    await ask("stop");
    await until("the page says so", async () => (await p.locator("#outage").isVisible()) && (await text(p, "#line")) === "no connection");
    assertEqual(await count(p, "tbody tr"), 50, "what was known");
    await p.evaluate(() => (location.hash = "#/log"));
    await until("another page says so too", async () => (await text(p, "h1")) === "No answer");
    await ask("start");
    await until("it shows the log by itself", async () => (await text(p, "h1")) === "Log" && !(await p.locator("#outage").isVisible()));
    expected.console = null;
    assert(await p.evaluate(() => window.stillTheSame), "the page was loaded again");
    await close(at);
  },
};

await run("page_trust", tests);

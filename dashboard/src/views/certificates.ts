// Certificates: the list with its search, one certificate, issuing and revoking.
import type { Page } from "../api";
import { h, type Child } from "../dom";
import { foreign, fullId, shortId, time, title } from "../format";
import { trust, type Issued, type Shown } from "../trust/api";
import { hex, sha256, unpem } from "../trust/bytes";
import { inclusionOf, NotYet } from "../trust/log";
import { oidText, parseTbs, tbsOf, type Certificate } from "../trust/x509";
import { actForm, choice, confirm, field, needsToken, valueOf } from "./form";
import { card, crumb, facts, head, pager, pill, table } from "./parts";
import { proofPath } from "./path";

const LIST = 50;
const reasons: [string, string][] = [
  ["unspecified", "no reason given"], ["keyCompromise", "the key was stolen or lost"], ["affiliationChanged", "the holder's affiliation changed"],
  ["superseded", "another certificate took its place"], ["cessationOfOperation", "no longer in use"], ["privilegeWithdrawn", "the right to it was taken back"],
];
const reasonText = (word: string): string => reasons.find(([w]) => w === word)?.[1] ?? word;

export const certificateState = (c: Issued): HTMLElement => pill(c.state === "valid" ? "good" : c.state === "revoked" ? "bad" : "idle", c.state);
export const certificateLink = (serial: string, text: Child): HTMLElement => h("a", { href: `#/certificates/${serial}`, "data-row": true }, text);

/** A serial, a whole name, or part of a subject. */
async function find(q: string, family: string, cursor: string): Promise<Page<Issued>> {
  if (/^[0-9a-f]{32}$/i.test(q) && !cursor) {
    const found = await trust.show(q.toLowerCase()).catch(() => null);
    if (found) return { items: !family || found.family === family ? [found] : [], next: null };
  }
  const whole = q.startsWith("=");
  return trust.list({ q: whole ? "" : q, name: whole ? q.slice(1).toLowerCase() : "", family, cursor }, LIST);
}

export async function certificates(query: URLSearchParams): Promise<HTMLElement> {
  const [q, family, cursor] = ["q", "family", "cursor"].map((n) => query.get(n) ?? "") as [string, string, string];
  const page = await find(q, family, cursor);
  return h(
    "div",
    {},
    head("Certificates"),
    h("p", { class: "lead dim" }, "Everything that this authority issued, newest first. Mesh certificates are for nodes, edge certificates for servers that browsers ask. Whatever is here also stands in the ", h("a", { href: "#/log" }, "log"), "."),
    h(
      "form",
      { class: "search two", role: "search", "data-page": "#/", autocomplete: "off" },
      h("label", { class: "grow" }, h("span", {}, "Subject or serial ", h("kbd", {}, "/")), h("input", { type: "search", name: "q", value: q, id: "search", maxlength: "255", spellcheck: "false", placeholder: "part of a subject, a serial, or =whole.name" })),
      h("label", {}, "Family", h("select", { name: "family" }, ...[["", "any"], ["mesh", "mesh"], ["edge", "edge"]].map(([v, t]) => h("option", { value: v!, selected: v === family }, t!)))),
    ),
    h(
      "section",
      { class: "card", "aria-label": "Certificates found" },
      table(
        "Certificates",
        ["Subject", "Family", "State", "Issued", "Ends", "Serial"],
        page.items.map((c) => ({
          key: c.serial,
          class: c.state === "valid" ? "" : "quiet",
          cells: [certificateLink(c.serial, h("span", { class: "clamp" }, foreign(c.subject || "(no name)"))), c.family, certificateState(c), time(c.not_before_ms), time(c.not_after_ms), shortId(c.serial, "serial")],
        })),
        h("span", {}, page.next ? "None of those looked at so far matches; older ones may. " : "No certificate matches. ", q || family || cursor ? h("a", { href: "#/" }, "Show all") : null),
      ),
      pager("#/", cursor, page.next, { q, family }),
    ),
  );
}

// ---- one certificate ----------------------------------------------------------------------------

function pemFile(name: string, pem: string): HTMLElement {
  return h("button", { type: "button", "data-save": pem, "data-file": name }, "Download PEM");
}

const lines = (texts: string[]): Child => (texts.length ? h("ul", { class: "plain" }, ...texts.map((t) => h("li", {}, foreign(t)))) : h("span", { class: "dim" }, "none"));

async function fields(c: Issued, pem: string, der: Uint8Array, x: Certificate): Promise<HTMLElement> {
  return h(
    "section",
    { class: "card", id: "fields" },
    facts([
      ["Subject", foreign(x.subject || "(empty)")],
      ["Names", lines(x.names)],
      ["Issuer", foreign(x.issuer)],
      ["Family", c.family],
      ["Valid from", time(c.not_before_ms)],
      ["Valid until", time(c.not_after_ms)],
      c.state === "revoked" ? ["Revoked", h("span", {}, time(c.revoked_ms ?? 0), `: ${reasonText(c.reason ?? "")}`)] : null,
      ["Key", x.key],
      ["Signature", x.signature],
      ["Key use", [...x.keyUse, ...x.extendedUse].join(", ") || "not limited"],
      ["Extensions", lines(x.extensions.map((e) => `${oidText(e.oid)}${e.critical ? ", critical" : ""}`))],
      ["Serial", fullId(c.serial, "serial")],
      ["SHA-256", fullId(hex(await sha256(der)), "fingerprint")],
      ["File", pemFile(`${c.serial}.crt`, pem)],
    ]),
    h("details", { id: "pem" }, h("summary", {}, "PEM"), h("pre", { tabindex: "0", "aria-label": "The certificate in PEM" }, pem)),
  );
}

async function logCard(c: Shown, der: ReturnType<typeof unpem>, x: Certificate): Promise<HTMLElement> {
  try {
    const i = await inclusionOf(der, x, unpem(c.issuing));
    if (!i) return card("In the log", h("p", { class: "empty" }, "The certificate has no timestamp of the log: it was issued before there was one."));
    return h(
      "section",
      { class: "card", id: "inclusion" },
      h("h2", {}, "In the log ", h("small", { class: "dim" }, "checked again just now")),
      facts([
        ["Entry", h("a", { href: `#/log/${i.sct.index}` }, `#${i.sct.index}`)],
        ["Logged", time(i.sct.timeMs)],
      ]),
      proofPath(i.sct.index, i.size, i.leaf, i.steps, i.computed, i.root, i.good),
    );
  } catch (e) {
    const early = e instanceof NotYet;
    return h("section", { class: "card", id: "inclusion" }, h("h2", {}, "In the log"), h("p", { "data-proof": early ? "early" : "failed" }, early ? pill("warn", "not yet") : pill("bad", "not verified"), ` ${e instanceof Error ? e.message : String(e)}`));
  }
}

/** Its key is what renews it, and that is not here. */
function renewCard(c: Issued): Child {
  if (c.state !== "valid") return null;
  return card(
    "Renew",
    h("p", {}, "Once a third of its life is over, whoever has its key gets the next one, without a token; the programs of HyperMesh do so by themselves: ", h("code", {}, "hypermesh cert renew FILE --key KEY"), "."),
    h("p", { class: "dim" }, "An operator can issue the next one at any time, for a ", h("a", { href: "#/issue" }, "new request"), " with the same names. By ACME, its client renews it."),
  );
}

function revokeCard(c: Issued): Child {
  if (c.state === "revoked") return null;
  return card(
    "Revoke",
    h("p", { class: "dim" }, "For good: the next revocation list names it, and nodes learn of it from there."),
    needsToken("#/roles", "operator"),
    actForm("revoke", "Revoke this certificate", h("input", { type: "hidden", name: "serial", value: c.serial }), field("Reason", choice("reason", reasons)), confirm("I know that this cannot be undone.")),
  );
}

export async function certificate(serial: string): Promise<HTMLElement> {
  const c = await trust.show(serial);
  const der = unpem(c.certificate);
  const x = parseTbs(tbsOf(der));
  return h(
    "div",
    {},
    crumb("#/", "Certificates"),
    head(foreign(c.subject || "(no name)"), certificateState(c), h("span", { class: "tag" }, c.family)),
    await fields(c, c.certificate, der, x),
    await logCard(c, der, x),
    renewCard(c),
    revokeCard(c),
  );
}

// ---- issuing ------------------------------------------------------------------------------------

export function issue(): HTMLElement {
  return h(
    "div",
    {},
    head("Issue a certificate"),
    h(
      "section",
      { class: "card" },
      h("p", { class: "dim" }, "Make a key where it is to be used, and a request (PKCS#10) with it. The key never leaves that machine: ", h("code", {}, "openssl req -new -key web.key -subj / -addext subjectAltName=DNS:web.test"), ". To renew, give a new request for the same names."),
      needsToken("#/roles", "operator"),
      actForm(
        "issue",
        "Issue",
        field("Request in PEM", h("textarea", { name: "csr", rows: "9", required: true, spellcheck: "false", placeholder: "-----BEGIN CERTIFICATE REQUEST-----" })),
        field("Profile", choice("profile", [["server", "server: edge, for HTTPS"], ["node", "node: mesh, FALCON-1024"], ["client", "client: edge, for TLS clients"], ["code", "code: edge, signs code"]])),
        field("Days until it ends", h("input", { name: "days", inputmode: "numeric", pattern: "[0-9]{1,3}", placeholder: "30" }), "30 unless given"),
      ),
    ),
  );
}

async function doIssue(form: HTMLFormElement): Promise<Child> {
  const days = valueOf(form, "days");
  const made = await trust.issue(`${valueOf(form, "csr")}\n`, valueOf(form, "profile"), days ? { life_seconds: Number(days) * 86400 } : {});
  return h(
    "div",
    { id: "issued" },
    h("p", {}, "Issued: ", certificateLink(made.serial, foreign(made.subject)), ", until ", time(made.not_after_ms), "."),
    h("p", {}, pemFile(`${made.serial}-chain.crt`, made.chain)),
    h("pre", { tabindex: "0", "aria-label": "The chain in PEM" }, made.chain),
  );
}

async function doRevoke(form: HTMLFormElement): Promise<Child> {
  const c = await trust.revoke(valueOf(form, "serial"), valueOf(form, "reason"));
  return title(c.state);
}
export const certificateActs = { issue: doIssue, revoke: doRevoke };

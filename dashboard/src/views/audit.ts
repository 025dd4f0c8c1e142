// Who did what: the audit log, its chain checked in the browser.
import { session } from "../api";
import { h, type Child } from "../dom";
import { count, foreign, fullId, plural, shortId, time } from "../format";
import { trust } from "../trust/api";
import { checkChain, readAudit } from "../trust/audit";
import { actForm, field, needsToken, valueOf } from "./form";
import { card, head, pager, pill, table } from "./parts";

const LIST = 50;
const CHECK = 500;

export async function audit(query: URLSearchParams): Promise<HTMLElement> {
  const lead = h("p", { class: "lead dim" }, "Every act, newest first. Each line names the SHA-256 of the line before, so that none can be changed or taken out without all later ones being written anew; who noted a later head finds that too.");
  if (!session.token) return h("div", {}, head("Audit log"), lead, needsToken("#/roles", "viewer"));
  const cursor = query.get("cursor") ?? "";
  const page = readAudit(await trust.audit(cursor, LIST));
  // An older page hangs on the newer one; alone, its first line is taken as it is.
  const { wrong } = await checkChain(cursor ? { ...page, items: page.items.slice(1), lines: page.lines.slice(1) } : page, cursor && page.items[0] ? { n: page.items[0].n - 1, hash: page.items[0].prev } : page.head);
  return h(
    "div",
    {},
    head("Audit log"),
    lead,
    h(
      "section",
      { class: "card", id: "chain" },
      h("p", {}, wrong ? pill("bad", "failed") : pill("good", "verified"), wrong ? ` ${wrong}` : ` The lines of this page are a chain${cursor ? "" : ", up to the head"}. `),
      h("p", {}, `Head, line ${count(page.head.n)}: `, fullId(page.head.hash, "head")),
      actForm("audit", "Check all lines", field("A head that you noted (not needed)", h("input", { name: "head", spellcheck: "false", maxlength: "64" }))),
    ),
    card(
      cursor ? "Older acts" : "Newest acts",
      table(
        "Acts",
        [["Line", "num"], "Time", "Who", "Act", "About", "Serial", "From"],
        page.items.map((e) => ({
          key: String(e.n),
          cells: [count(e.n), time(e.at_ms), foreign(e.who), foreign(e.act), h("span", { class: "clamp" }, foreign([e.subject, e.detail].filter(Boolean).join(": ") || "–")), e.serial ? shortId(e.serial, "serial", `#/certificates/${encodeURIComponent(e.serial)}`) : "–", foreign(e.from || "–")],
        })),
        "Nothing was done yet.",
      ),
      pager("#/audit", cursor, page.next),
    ),
  );
}

async function checkAll(form: HTMLFormElement): Promise<Child> {
  const noted = valueOf(form, "head").toLowerCase();
  let cursor = "";
  let above: { n: number; hash: string } | null = null;
  let [checked, head, met] = [0, 0, false];
  do {
    const page = readAudit(await trust.audit(cursor, CHECK));
    if (!above) [above, head] = [page.head, page.head.n];
    met ||= above.hash === noted || page.items.some((e) => e.prev === noted);
    const { wrong, below } = await checkChain(page, above);
    if (wrong) throw new Error(`Failed: ${wrong}`);
    checked += page.items.length;
    [above, cursor] = [below, page.next ?? ""];
  } while (cursor);
  if (noted && !met) throw new Error("Failed: no line has the hash that you noted. The log was written anew since, or it is another log.");
  return h("span", { "data-proof": "verified" }, pill("good", "verified"), ` ${plural(checked, "line")}, from the first to line ${count(head)}${noted ? "; the head that you noted is one of them" : ""}.`);
}
export const auditActs = { audit: checkAll };

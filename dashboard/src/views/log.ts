// The transparency log: its checkpoint, its entries, and whether one size continues another.
import { ApiError } from "../api";
import { h, type Child } from "../dom";
import { bytes, count, foreign, fullId, plural, short, shortId, time } from "../format";
import { hex, same } from "../trust/bytes";
import { entries, entryIncluded, provenConsistent, rootOfText, rootText, watch, type Entry, type Watch } from "../trust/log";
import { rootAt, TILE_WIDTH } from "../trust/tree";
import { actForm, field, valueOf } from "./form";
import { card, crumb, facts, head, pill, table } from "./parts";
import { certificateLink } from "./certificates";
import { proofPath } from "./path";

const LIST = 32; // divides a tile

const nameOf = (e: Entry): string => e.certificate.names.join(" ") || e.certificate.subject || "(no name)";
const entryLink = (e: Entry): HTMLElement => h("a", { href: `#/log/${e.index}`, "data-row": true }, `#${count(e.index)}`);

function checkpointCard({ now, first, continues }: Watch): HTMLElement {
  return h(
    "section",
    { class: "card", id: "checkpoint" },
    h("h2", {}, "Newest checkpoint"),
    facts([
      ["Log", foreign(now.origin)],
      ["Entries", h("span", { id: "log-size" }, count(now.size))],
      ["Root", fullId(rootText(now.root), "root")],
      ["Signed", time(now.timeMs)],
      ["Signature", h("span", {}, pill("good", "verified"), " by the log's key, in this browser")],
      ["Continuity", h("span", { id: "continues" }, continues ? pill("good", "verified") : pill("bad", "failed"),
        continues ? ` every checkpoint since this tab saw one of ${plural(first.size, "entry", "entries")} continues the one before` : " a checkpoint does not continue the one before: entries were changed or taken out. Keep this tab, and tell others.")],
    ]),
  );
}

const consistencyCard = (size: number): HTMLElement =>
  card(
    "Does one size continue another?",
    h("p", { class: "dim" }, "A log only grows: the tree of a size must begin with that of each smaller size. This browser computes both roots out of the log's tiles and follows the proof from one to the other. If you noted an earlier root, it is compared too."),
    actForm(
      "consistency",
      "Check",
      h(
        "div",
        { class: "row" },
        field("From size", h("input", { name: "from", inputmode: "numeric", pattern: "[0-9]+", required: true, value: "1" })),
        field("To size", h("input", { name: "to", inputmode: "numeric", pattern: "[0-9]+", required: true, value: String(size) })),
      ),
      field("Root of the first size that you noted (not needed)", h("input", { name: "root", spellcheck: "false", maxlength: "64" })),
    ),
  );

async function doConsistency(form: HTMLFormElement): Promise<Child> {
  const [from, to] = ["from", "to"].map((n) => Number(valueOf(form, n))) as [number, number];
  const noted = valueOf(form, "root");
  const { now } = await watch();
  if (from < 1 || from > to || to > now.size) throw new Error(`Sizes are from 1 to ${now.size}, the first not above the second.`);
  const [a, b] = await Promise.all([rootAt(from), rootAt(to)]);
  if (noted && !same(rootOfText(noted), a)) throw new Error(`Failed: the tree of ${plural(from, "entry", "entries")} has the root ${rootText(a)}, not the one that you noted.`);
  const signed = to === now.size;
  if (signed && !same(b, now.root)) throw new Error(`Failed: the tiles give another root than the checkpoint signs, ${rootText(b)}.`);
  if (!(await provenConsistent(from, a, to, b))) throw new Error("Failed: the proof does not lead from the first root to the second.");
  return h("div", { "data-proof": "verified" }, pill("good", "verified"), ` The tree of ${count(to)} begins with that of ${count(from)}.${noted ? " The root that you noted is the first one's." : ""}${signed ? " The second root is the signed one." : ""}`,
    facts([[`Root of ${count(from)}`, h("code", {}, rootText(a))], [`Root of ${count(to)}`, h("code", {}, rootText(b))]]));
}
export const logActs = { consistency: doConsistency, entry: goToEntry };

function goToEntry(form: HTMLFormElement): Promise<Child> {
  location.hash = `#/log/${valueOf(form, "index")}`;
  return Promise.resolve(null);
}

/** cursor: the index after the last of the page. */
export async function log(query: URLSearchParams): Promise<HTMLElement> {
  const seen = await watch();
  const { now } = seen;
  const cursor = query.get("cursor") ?? "";
  const end = cursor ? Number(cursor) : now.size;
  if (!Number.isSafeInteger(end) || end < 0 || end > now.size) throw new ApiError(404, "The log has no such entries.");
  const from = end === 0 ? 0 : Math.floor((end - 1) / LIST) * LIST;
  const page = end === 0 ? [] : await entries(from, end, now.size);
  return h(
    "div",
    {},
    head("Log"),
    h("p", { class: "lead dim" }, "Every certificate stands here before it is given out, for anybody to see. Nothing on this page asks you to believe the authority: what it says is checked by this browser."),
    cursor ? null : checkpointCard(seen),
    cursor ? null : consistencyCard(now.size),
    card(
      cursor ? "Older entries" : "Newest entries",
      table(
        "Entries",
        ["Entry", "Names", "Logged", "Serial", "Leaf"],
        page.reverse().map((e) => ({ key: String(e.index), cells: [entryLink(e), h("span", { class: "clamp" }, foreign(nameOf(e))), time(e.timeMs), shortId(e.serial, "serial", `#/certificates/${e.serial}`), h("code", { title: hex(e.leaf) }, short(hex(e.leaf)))] })),
        "The log is empty.",
      ),
      cursor || from > 0
        ? h("nav", { class: "pager", "aria-label": "Pages of this list" }, cursor ? h("a", { class: "button", href: "#/log" }, "Newest") : null, from > 0 ? h("a", { class: "button", id: "next", href: `#/log?cursor=${from}` }, "Older") : h("span", { class: "dim" }, "End of the list"))
        : null,
      actForm("entry", "Show the entry", field("Entry by its number", h("input", { name: "index", inputmode: "numeric", pattern: "[0-9]+", required: true }), `from 0 to ${Math.max(0, now.size - 1)} now`)),
    ),
  );
}

export async function entry(arg: string): Promise<HTMLElement> {
  const index = Number(arg);
  const { now } = await watch();
  if (!/^\d+$/.test(arg) || index >= now.size) throw new ApiError(404, `The log has entries 0 to ${now.size - 1}.`);
  const e = (await entries(index, index + 1, now.size))[0]!;
  const proof = await entryIncluded(e, now);
  const c = e.certificate;
  return h(
    "div",
    {},
    crumb("#/log", "Log"),
    head(
      `Entry ${count(index)}`,
      h("nav", { class: "beside", "aria-label": "Neighbours" },
        index > 0 ? h("a", { class: "button", href: `#/log/${index - 1}` }, `‹ ${count(index - 1)}`) : null,
        index + 1 < now.size ? h("a", { class: "button", href: `#/log/${index + 1}` }, `${count(index + 1)} ›`) : null),
    ),
    h(
      "section",
      { class: "card" },
      facts([
        ["Names", foreign(nameOf(e))],
        ["Issuer", foreign(c.issuer)],
        ["Logged", time(e.timeMs)],
        ["Valid", h("span", {}, time(c.notBeforeMs), " to ", time(c.notAfterMs))],
        ["Key", c.key],
        ["Certificate", certificateLink(e.serial, h("code", {}, e.serial))],
        ["Holds", `${e.precert ? "precertificate" : "certificate"}, ${bytes(e.bytes)}, in tile ${count(Math.floor(index / TILE_WIDTH))}`],
        ["Leaf hash", fullId(hex(e.leaf), "leaf hash")],
      ]),
    ),
    card("Inclusion", proofPath(index, now.size, e.leaf, proof.steps, proof.computed, now.root, proof.good)),
  );
}

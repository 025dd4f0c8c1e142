// Blocks and operations.
import { api, type Block, type Proof } from "../api";
import { h, type Child } from "../dom";
import { bytes, count, foreign, fullId, plural, short, time, title } from "../format";
import { card, crumb, facts, head, link, operationsTable, opWords, pager, pill, table } from "./parts";

export async function blocks(query: URLSearchParams): Promise<HTMLElement> {
  const cursor = query.get("cursor") ?? "";
  const [page, newest] = await Promise.all([api.blocks(cursor, 25), cursor ? null : api.operations("", 8)]);
  return h(
    "div",
    {},
    head("Blocks"),
    newest ? card("Newest operations", operationsTable(newest.items, "None in the newest blocks."), h("p", { class: "more" }, h("a", { href: "#/operations" }, "All operations"))) : null,
    card(
      cursor ? "Older blocks" : "Newest blocks",
      table(
        "Blocks",
        ["Block", "Time", ["Operations", "num"], "Proposer", ["View", "num"], "State root"],
        page.items.map((b) => ({
          key: b.id,
          class: b.ops_count === 0 ? "quiet" : "",
          cells: [link.block(b.height, true), time(b.time_ms), b.ops_count ? count(b.ops_count) : h("span", { class: "dim" }, "none"), link.node(b.proposer, b.proposer_name), count(b.view), h("code", { title: b.state_root }, short(b.state_root))],
        })),
        "No block is final yet.",
      ),
      pager("#/blocks", cursor, page.next),
    ),
  );
}

export async function block(height: string, query: URLSearchParams): Promise<HTMLElement> {
  const cursor = query.get("cursor") ?? "";
  const [b, ops] = await Promise.all([api.block(height), api.blockOperations(height, cursor)]);
  return h(
    "div",
    {},
    crumb("#/blocks", "Blocks"),
    head(
      `Block ${count(b.height)}`,
      pill("good", "final"),
      h(
        "nav",
        { class: "beside", "aria-label": "Neighbours" },
        b.height > 1 ? h("a", { class: "button", href: `#/blocks/${b.height - 1}` }, `‹ ${count(b.height - 1)}`) : null,
        h("a", { class: "button", href: `#/blocks/${b.height + 1}` }, `${count(b.height + 1)} ›`),
      ),
    ),
    h("section", { class: "card" }, blockFacts(b)),
    card(
      `Operations (${count(b.ops_count)})`,
      operationsTable(ops.items, "An empty block: it keeps the chain moving while nobody asks anything."),
      pager(`#/blocks/${height}`, cursor, ops.next),
    ),
  );
}

const blockFacts = (b: Block): HTMLElement =>
  facts([
    ["Time", time(b.time_ms)],
    ["Proposer", link.node(b.proposer, b.proposer_name)],
    ["View", count(b.view)],
    ["Epoch", count(b.epoch)],
    ["Block id", fullId(b.id, "block id")],
    ["Parent", b.height > 1 ? fullId(b.parent, "parent id") : "the genesis"],
    ["State root after it", fullId(b.state_root, "state root")],
    ["Operations root", fullId(b.ops_root, "operations root")],
  ]);

export async function operations(query: URLSearchParams): Promise<HTMLElement> {
  const cursor = query.get("cursor") ?? "";
  const page = await api.operations(cursor, 50);
  return h(
    "div",
    {},
    crumb("#/blocks", "Blocks"),
    head("Operations"),
    h("section", { class: "card" }, operationsTable(page.items, page.next ? "None in these blocks; older ones may have some." : "None yet."), pager("#/operations", cursor, page.next)),
  );
}

// ---- one operation ------------------------------------------------------------------------------

function value(v: unknown, key = ""): Child {
  if (typeof v === "number" && key === "size") return `${bytes(v)} (${plural(v, "byte")})`;
  if (typeof v === "string") return /^[0-9a-f]{32,}$/.test(v) ? h("code", {}, v) : foreign(v);
  if (typeof v === "object" && v !== null)
    return Object.keys(v).length === 0 ? "none" : facts(Object.entries(v).map(([k, x]) => [title(k), value(x, k)]));
  return typeof v === "number" ? count(v) : String(v);
}

const questions = { space: "Where", stake: "Who", work: "How", time: "When" };
const result = (passed: boolean): HTMLElement => pill(passed ? "good" : "bad", passed ? "holds" : "fails");

export function proofCards(proofs: Proof[]): HTMLElement {
  return h(
    "div",
    { class: "proofs" },
    ...proofs.map((p) =>
      h(
        "section",
        { class: "proof", "data-proof": p.name },
        h("h3", {}, `${title(p.name)} `, h("small", { class: "dim" }, questions[p.name])),
        p.present ? result(p.passed) : pill("idle", "not asked"),
        h("p", {}, p.summary.replace(/^[A-Z]+: /, "").replace(/^./, (c) => c.toUpperCase()), "."),
        h(
          "ul",
          { class: "checks" },
          ...p.checks.map((c) =>
            h("li", { class: c.passed ? "good" : "bad" }, h("span", { class: "visually-hidden" }, c.passed ? "Passed: " : "Failed: "), title(c.what), c.detail ? h("small", {}, c.detail) : null),
          ),
        ),
      ),
    ),
  );
}

export async function operation(id: string): Promise<HTMLElement> {
  const [op, proofs] = await Promise.all([api.operation(id), api.proofs(id)]);
  const bad = proofs.filter((p) => !p.passed).length;
  return h(
    "div",
    {},
    crumb("#/blocks", "Blocks"),
    head(opWords(op), pill("good", "final"), bad ? pill("bad", `${bad} of ${proofs.length} proofs fail`) : null),
    h(
      "section",
      { class: "card" },
      facts([
        ["Final in", h("span", {}, link.block(op.height), `, place ${op.index + 1}`)],
        ["Time", time(op.time_ms)],
        ["By", link.node(op.owner, op.owner_name)],
        /^0+$/.test(op.asset) ? null : ["Asset", link.assetId(op.asset)],
        ["Nonce", count(op.nonce)],
        ["Operation id", fullId(op.id, "operation id")],
      ]),
    ),
    op.payload && Object.keys(op.payload).length
      ? card("What it says", facts(Object.entries(op.payload).map(([k, v]) => [title(k), value(v, k)])))
      : null,
    h("section", { class: "card" }, h("h2", {}, "Proofs ", h("small", { class: "dim" }, "checked again just now, by this node")), proofCards(proofs)),
  );
}

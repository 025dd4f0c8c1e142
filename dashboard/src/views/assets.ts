// Assets: the list with its search, and one asset.
import { api, type Asset, type AssetQuery, type ChunkPage, type Commitment, type HistoryEntry, type Page, type Proof } from "../api";
import { h, s, type Child } from "../dom";
import { bytes, count, foreign, fullId, plural, shortId, time, title, words } from "../format";
import { store } from "../store";
import { assetState, card, crumb, facts, head, link, pager, pill, table } from "./parts";

const kinds = ["cpu", "gpu", "memory", "storage", "network", "container", "service", "name", "data", "economic"];
const states = ["available", "allocated", "in_use", "suspended", "maintenance", "failed", "retired"];
const fields = ["q", "kind", "state", "owner"] as const;

const options = (values: [string, string][], chosen: string): HTMLElement[] =>
  [["", "any"] as [string, string], ...values].map(([v, text]) => h("option", { value: v, selected: v === chosen }, text));
const select = (label: string, name: string, values: [string, string][], chosen: string): HTMLElement =>
  h("label", {}, label, h("select", { name }, ...options(values, chosen)));
const worded = (values: string[]): [string, string][] => values.map((v) => [v, words(v)]);

/** Name or, when it looks like one, the beginning of an id. */
async function find(p: Omit<AssetQuery, "id">): Promise<Page<Asset>> {
  if (!/^[0-9a-f]{6,64}$/i.test(p.q) || p.cursor) return api.assets({ ...p, id: "" }, 50);
  const [named, identified] = await Promise.all([api.assets({ ...p, id: "" }, 50), api.assets({ ...p, q: "", id: p.q }, 5)]);
  const known = new Set(identified.items.map((a) => a.id));
  return { items: [...identified.items, ...named.items.filter((a) => !known.has(a.id))], next: named.next };
}

export async function assets(query: URLSearchParams): Promise<HTMLElement> {
  const p = { q: "", kind: "", state: "", owner: "", cursor: query.get("cursor") ?? "" };
  for (const name of fields) p[name] = query.get(name) ?? "";
  const page = await find(p);
  const filtered = fields.some((f) => p[f]);
  const { cursor, ...filters } = p;
  return h(
    "div",
    {},
    head("Assets"),
    h(
      "form",
      { class: "search", role: "search", "data-page": "#/assets", autocomplete: "off" },
      h("label", { class: "grow" }, h("span", {}, "Name or id ", h("kbd", {}, "/")), h("input", { type: "search", name: "q", value: p.q, id: "search", maxlength: "255", spellcheck: "false", placeholder: "part of a name, or the start of an id" })),
      select("Kind", "kind", worded(kinds), p.kind),
      select("State", "state", worded(states), p.state),
      select("Owner", "owner", store.nodes.map((n) => [n.name, n.name]), p.owner),
    ),
    h(
      "section",
      { class: "card", "aria-label": "Assets found" },
      table(
        "Assets",
        ["Name", "Kind", "State", "Owner", ["Size", "num"], "Registered", "Id"],
        page.items.map((a) => ({
          key: a.id,
          class: a.state === "retired" ? "quiet" : "",
          cells: [link.asset(a), a.kind, assetState(a.state), link.node(a.owner, a.owner_name), a.content ? bytes(a.content.size) : h("span", { class: "dim" }, "–"), time(a.registered_ms), shortId(a.id, "asset id")],
        })),
        filtered || cursor
          ? h("span", {}, page.next ? "None of those looked at so far matches; older ones may. " : "No asset matches. ", h("a", { href: "#/assets" }, "Show all"))
          : h("span", {}, "No assets yet. Register the first one: ", h("code", {}, "hypermesh asset register --kind service --name hello")),
      ),
      pager("#/assets", cursor, page.next, filters),
    ),
  );
}

// ---- one asset ----------------------------------------------------------------------------------

const proofsOf = new Map<string, Promise<Proof[]>>(); // of operations looked at; they do not change
const HISTORY_PROOFS = 8;

async function proofMarks(entry: HistoryEntry): Promise<HTMLElement> {
  let wanted = proofsOf.get(entry.op);
  if (!wanted) {
    wanted = api.proofs(entry.op);
    wanted.catch(() => proofsOf.delete(entry.op));
    proofsOf.set(entry.op, wanted);
  }
  const proofs = await wanted;
  return h(
    "a",
    { class: "marks", href: `#/operations/${entry.op}` },
    ...proofs.map((p) => {
      const mark = pill(!p.present ? "idle" : p.passed ? "good" : "bad", p.name);
      mark.append(h("span", { class: "visually-hidden" }, !p.present ? " not asked" : p.passed ? " holds" : " fails"));
      return mark;
    }),
  );
}

async function historyTable(history: HistoryEntry[]): Promise<HTMLElement> {
  const newest = [...history].reverse();
  const marks = await Promise.all(
    newest.map((e, i) => (i < HISTORY_PROOFS || proofsOf.has(e.op) ? proofMarks(e).catch(() => null) : null)),
  );
  return table(
    "History",
    ["What", "State after", "By", "Block", "Time", "Proofs"],
    newest.map((e, i) => ({
      key: e.op,
      cells: [
        link.operation(e.op, h("span", {}, title(e.action), e.action === "transfer" ? ` to ${store.nodeName(e.owner)}` : "")),
        assetState(e.state),
        link.node(e.actor, e.actor_name),
        link.block(e.height),
        time(e.time_ms),
        marks[i] ?? h("a", { href: `#/operations/${e.op}` }, "check"),
      ],
    })),
    "No history.",
  );
}

function chunkPlaces(c: Commitment, page: ChunkPage): HTMLElement {
  const known = page.items.length;
  const some = known < c.chunks ? `the first ${count(known)} ` : "";
  const fewest = Math.min(...page.items.map((x) => x.held_by.length));
  return h(
    "div",
    {},
    h(
      "ul",
      { class: "placement" },
      ...store.nodes.map((n) => {
        const held = page.items.filter((x) => x.held_by.includes(n.name)).length;
        const answered = page.answered.includes(n.name);
        return h("li", {}, link.node(n.id, n.name), share(held, known), h("span", {}, answered ? `${count(held)} of ${count(known)}` : "no answer"));
      }),
    ),
    h("p", { class: "dim hint" }, `What each node said just now${some ? ` of ${some.trim()}` : ""}: every chunk is on ${plural(fewest, "node")} or more.`),
    h(
      "details",
      { id: "chunks" },
      h("summary", {}, `List of ${some}chunks`),
      table(
        "Chunks",
        [["Chunk", "num"], ["Size", "num"], "Held by", "SHA-256"],
        page.items.map((x) => ({ key: String(x.index), cells: [count(x.index + 1), bytes(x.bytes), x.held_by.length ? x.held_by.join(", ") : pill("bad", "nobody who answered"), x.hash ? shortId(x.hash, "chunk hash") : h("span", { class: "dim" }, "private")] })),
        "None.",
      ),
    ),
  );
}

function contentCard(a: Asset, chunks: ChunkPage | null): Child {
  const c = a.content;
  if (!c) return null;
  const isPublic = a.policy === "public";
  return card(
    "Content",
    facts([
      ["Size", `${bytes(c.size)} (${plural(c.size, "byte")})`],
      ["Chunks", `${count(c.chunks)} of ${bytes(c.chunk_bytes)} at most`],
      ["Merkle root", fullId(c.root, "content root")],
      ["Get it", isPublic ? h("a", { class: "button", href: `/v1/assets/${a.id}/content`, download: fileName(a) }, "Download, checked chunk by chunk") : h("code", {}, `hypermesh asset get ${a.id.slice(0, 12)} -o FILE`)],
    ]),
    isPublic ? null : h("p", { class: "dim hint" }, "The content is private: nodes with the right to read it give it to holders of their token."),
    h("h3", {}, "Where the chunks are"),
    !chunks ? h("p", { class: "empty" }, "No node that is up has the list of its chunks.") : chunks.items.length ? chunkPlaces(c, chunks) : h("p", { class: "empty" }, "It has none."),
  );
}

const share = (part: number, whole: number): SVGSVGElement =>
  s("svg", { class: "share", viewBox: `0 0 ${Math.max(1, whole)} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, s("rect", { width: String(part), height: "1" }));
const fileName = (a: Asset): string => a.name.split("/").pop() || "content";

export async function asset(id: string): Promise<HTMLElement> {
  const [a, history] = await Promise.all([api.asset(id), api.history(id)]);
  const [marks, chunks] = await Promise.all([historyTable(history.items), a.content ? api.chunks(id, "").catch(() => null) : null]);
  return h(
    "div",
    {},
    crumb("#/assets", "Assets"),
    head(foreign(a.name), assetState(a.state), h("span", { class: "tag" }, a.kind), h("span", { class: "tag" }, a.policy)),
    h(
      "section",
      { class: "card" },
      facts([
        ["Owner", link.node(a.owner, a.owner_name)],
        a.holder ? ["In use by", link.node(a.holder, store.nodeName(a.holder))] : null,
        ["Registered", h("span", {}, time(a.registered_ms), " in ", link.block(a.registered_height))],
        ["Last change", a.revision > 1 ? h("span", {}, time(a.updated_ms), " in ", link.block(a.updated_height)) : "none"],
        ["Overlay address", h("code", {}, a.addr)],
        ["Who may", a.policy === "public" ? "every member may read and use it" : a.grants.length ? h("ul", { class: "plain" }, ...a.grants.map((g) => h("li", {}, link.node(g.node, store.nodeName(g.node)), `: ${g.rights.join(", ")}`))) : "its owner only"],
        ["Asset id", fullId(a.id, "asset id")],
      ]),
    ),
    contentCard(a, chunks),
    h("section", { class: "card", id: "history" }, h("h2", {}, "History ", h("small", { class: "dim" }, "each operation with its four proofs")), marks, history.next ? h("p", { class: "dim hint" }, `The first ${history.items.length} operations.`) : null),
  );
}

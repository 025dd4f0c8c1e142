// What several pages have in common.
import type { Asset, MeshNode, NodeEvent, Operation } from "../api";
import { hashTo } from "../app";
import { h, type Child } from "../dom";
import { count, duration, foreign, plural, short, time, title, words } from "../format";
import { store } from "../store";

export const link = {
  asset: (a: Asset): HTMLElement => h("a", { href: `#/assets/${a.id}`, "data-row": true, class: "clamp" }, foreign(a.name)),
  assetId: (id: string): HTMLElement => h("a", { href: `#/assets/${id}` }, h("code", {}, short(id))),
  operation: (id: string, text: Child = h("code", { title: id }, short(id))): HTMLElement => h("a", { href: `#/operations/${id}`, "data-row": true }, text),
  block: (height: number, row = false): HTMLElement => h("a", { href: `#/blocks/${height}`, "data-row": row }, `#${count(height)}`),
  node: (id: string, name: string): HTMLElement => h("a", { href: `#/nodes/${id}` }, name || short(id)),
};

/** A state is a word in a colour with a mark of its own shape, never a colour alone. */
export const pill = (tone: "good" | "warn" | "bad" | "idle", text: Child): HTMLElement => h("span", { class: `pill ${tone}` }, text);

export function nodeState(n: MeshNode): HTMLElement {
  if (n.state === "up") return pill("good", "up");
  if (n.state === "connecting") return pill("warn", "connecting");
  return pill("bad", n.state === "refused" ? "refused" : "down");
}
export function assetState(state: string): HTMLElement {
  const tone = state === "failed" ? "bad" : state === "available" || state === "in_use" || state === "allocated" ? "good" : state === "retired" ? "idle" : "warn";
  return pill(tone, words(state));
}

export function card(heading: string, ...children: Child[]): HTMLElement {
  return h("section", { class: "card" }, h("h2", {}, heading), ...children);
}

/** A table that becomes a list of cards at phone width; keys keep rows apart when it is refreshed. */
export function table(name: string, heads: (string | [string, string])[], rows: { key: string; cells: Child[]; class?: string }[], empty: Child): HTMLElement {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const texts = heads.map((x) => (typeof x === "string" ? x : x[0]));
  const classes = heads.map((x) => (typeof x === "string" ? "" : x[1]));
  return h(
    "table",
    { "aria-label": name },
    h("thead", {}, h("tr", {}, ...texts.map((t, i) => h("th", { scope: "col", class: classes[i] ?? "" }, t)))),
    h(
      "tbody",
      {},
      ...rows.map((r) =>
        h("tr", { "data-key": r.key, class: r.class ?? "" }, ...r.cells.map((c, i) => h("td", { "data-label": texts[i] ?? "", class: classes[i] ?? "" }, c))),
      ),
    ),
  );
}

export function facts(pairs: ([string, Child] | null)[]): HTMLElement {
  const dl = h("dl", { class: "facts" });
  for (const pair of pairs) if (pair) dl.append(h("div", {}, h("dt", {}, pair[0]), h("dd", {}, pair[1])));
  return dl;
}

export function head(heading: Child, ...beside: Child[]): HTMLElement {
  return h("div", { class: "page-head" }, h("h1", {}, heading), ...beside);
}
export const crumb = (href: string, text: string): HTMLElement => h("p", { class: "crumb" }, h("a", { href }, `‹ ${text}`));

export const opWords = (o: Operation): string => (o.module === "asset" ? `${title(o.kind)} asset` : title(o.kind));

export function operationsTable(items: Operation[], empty: string): HTMLElement {
  return table(
    "Operations",
    ["Operation", "By", "Block", "Time", "Asset"],
    items.map((o) => ({
      key: o.id,
      cells: [link.operation(o.id, opWords(o)), link.node(o.owner, o.owner_name), link.block(o.height), time(o.time_ms), /^0+$/.test(o.asset) ? h("span", { class: "dim" }, "–") : link.assetId(o.asset)],
    })),
    empty,
  );
}

/** To the pages of a long list. */
export const pager = (base: string, cursor: string, next: string | null, more: Record<string, string> = {}): Child =>
  cursor || next
    ? h(
        "nav",
        { class: "pager", "aria-label": "Pages of this list" },
        cursor ? h("a", { class: "button", href: hashTo(base, more) }, "Newest") : null,
        next ? h("a", { class: "button", id: "next", href: hashTo(base, { ...more, cursor: next }) }, "Older") : h("span", { class: "dim" }, "End of the list"),
      )
    : null;

// ---- events -------------------------------------------------------------------------------------

const eventLooks: Record<NodeEvent["type"], ["good" | "warn" | "bad" | "idle", string]> = {
  final: ["idle", "block"],
  peer_up: ["good", "node up"],
  peer_down: ["bad", "node lost"],
  refused: ["warn", "refused"],
  evidence: ["bad", "evidence"],
  sync: ["warn", "sync"],
  repair: ["idle", "repair"],
  nullified: ["warn", "view skipped"],
};

export function eventText(e: NodeEvent): Child[] {
  if (e.type !== "final") return [foreign(e.text)];
  return [link.block(e.height), ` is final: ${plural(e.count, "operation")}${e.finality_us ? `, ${duration(e.finality_us)}` : ""}`];
}

/** Newest first; what repeats itself stands there once, with how often it was. */
export function eventList(events: NodeEvent[], max: number, empty: string): HTMLElement {
  const groups: { e: NodeEvent; times: number }[] = [];
  for (const e of [...events].reverse()) {
    const last = groups.at(-1);
    const again = last && last.e.type === e.type && (e.type === "nullified" ? last.e.peer === e.peer : e.type === "refused" && last.e.text === e.text);
    if (again) last.times++;
    else if (groups.length === max) break;
    else groups.push({ e, times: 1 });
  }
  if (groups.length === 0) return h("p", { class: "empty" }, empty);
  return h(
    "ol",
    { class: "log", id: "log", "aria-label": "Events, newest first" },
    ...groups.map(({ e, times }) => {
      const [tone, name] = eventLooks[e.type];
      return h(
        "li",
        { "data-key": `${e.wall_ms}.${e.seq}`, class: e.type },
        time(e.wall_ms),
        pill(tone, name),
        h("span", { class: "log-text" }, ...eventText(e), times > 1 ? h("small", { class: "dim" }, ` · ${times} times`) : null),
      );
    }),
  );
}

/** Is this node's view that the mesh works, and why not. */
export function health(): { tone: "good" | "warn" | "bad"; text: string } {
  const s = store.status;
  if (!s) return { tone: "warn", text: "Not known yet" };
  const up = s.peers_connected + 1;
  const missing = s.validators - up;
  if (s.ready && missing === 0) return { tone: "good", text: "Healthy: every node is up and blocks become final" };
  if (s.ready) return { tone: "warn", text: `${plural(missing, "node")} missing; the others go on, for ${s.quorum} of ${s.validators} are a quorum` };
  if (s.syncing) return { tone: "warn", text: "This node is catching up with the others" };
  if (up < s.quorum) return { tone: "bad", text: `No quorum: ${up} of ${s.validators} nodes up, ${s.quorum} needed. Nothing becomes final` };
  return { tone: "bad", text: "No block has become final for a while" };
}

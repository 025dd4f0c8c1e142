// One function a page: it gets the route's argument and gives the page's content.
import { api, type Asset, type MeshNode, type NodeEvent, type Status } from "./api";
import { bytes, clockTime, dateTime, fields, h, millis, short, spark, table } from "./dom";

export const link = {
  asset: (id: string, text = short(id)) => h("a", { href: `#/assets/${id}` }, text),
  op: (id: string) => h("a", { href: `#/operations/${id}`, class: "mono" }, short(id)),
  block: (height: number) => h("a", { href: `#/blocks/${height}` }, `#${height}`),
};

const kinds = ["cpu", "gpu", "memory", "storage", "network", "container", "service", "name", "data", "economic"];
const states = ["available", "allocated", "in_use", "suspended", "maintenance", "failed", "retired"];

function stateOf(node: MeshNode): HTMLElement {
  const tone = node.self || node.state === "up" ? "good" : node.state === "connecting" ? "warn" : "bad";
  const text = node.self ? "this node" : node.state;
  return h("span", { class: `state ${tone}` }, text);
}

const figure = (name: string, value: string, note = "") =>
  h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, ` ${note}`) : null));

export function figures(s: Status): HTMLElement {
  return h(
    "dl",
    { class: "figures", id: "figures" },
    figure("Final height", String(s.height), s.syncing ? "catching up" : ""),
    figure("Time to finality, median", millis(s.finality_p50_us), `p99 ${millis(s.finality_p99_us)}`),
    figure("Peers", `${s.peers_connected} of ${s.validators - 1}`, `quorum ${s.quorum} of ${s.validators}`),
    figure("Operations final", String(s.ops_final), `${s.pending_ops} pending`),
    figure("Content here", bytes(s.chunk_bytes_stored), `${s.chunks_stored} chunks`),
    figure("Epoch", String(s.epoch), `view ${s.view}`),
  );
}

export function nodesTable(nodes: MeshNode[]): HTMLElement {
  return table(
    ["Node", "State", "Height", "Round trip", "Sent / received", "Id"],
    nodes.map((n) => [
      h("a", { href: `#/nodes/${n.id}` }, n.name || short(n.id)),
      h("span", {}, stateOf(n), n.reason && !n.self ? h("span", { class: "dim" }, ` ${n.reason}`) : null),
      String(n.height),
      n.self ? "–" : millis(n.rtt_us),
      n.self ? "–" : `${bytes(n.bytes_sent)} / ${bytes(n.bytes_received)}`,
      h("code", {}, short(n.id)),
    ]),
    "No nodes.",
  );
}

export function eventLine(e: NodeEvent, nameOf: (id: string) => string): HTMLElement {
  const who = nameOf(e.peer);
  const words: Record<NodeEvent["type"], () => (Node | string)[]> = {
    final: () => ["Block ", link.block(e.height), ` final, ${e.count} operation${e.count === 1 ? "" : "s"}${e.finality_us ? `, ${millis(e.finality_us)}` : ""}`],
    peer_up: () => [`${who} connected`],
    peer_down: () => [`${who} lost: ${e.text}`],
    refused: () => [`Refused: ${e.text}`],
    evidence: () => [`Evidence against ${who}: ${e.text}`],
    sync: () => [e.text],
    repair: () => [e.text],
  };
  const tone = { final: "", peer_up: "good", peer_down: "bad", refused: "warn", evidence: "bad", sync: "warn", repair: "warn" }[e.type];
  return h("li", { class: e.type }, h("time", {}, clockTime(e.wall_ms)), h("span", { class: tone ? `state ${tone}` : "" }, ...words[e.type]()));
}

export function overview(s: Status, nodes: MeshNode[], finality: number[], log: HTMLElement): HTMLElement {
  return h(
    "div",
    {},
    h("h1", {}, "Mesh"),
    figures(s),
    h("section", { class: "card" }, h("h2", {}, "Time to finality, newest blocks"), h("div", { id: "spark" }, spark(finality))),
    h("section", { class: "card" }, h("h2", {}, "Nodes"), h("div", { id: "nodes" }, nodesTable(nodes))),
    h("section", { class: "card" }, h("h2", {}, "Events"), log),
  );
}

function options(values: string[], chosen: string, all: string): HTMLElement[] {
  return [h("option", { value: "" }, all), ...values.map((v) => h("option", { value: v, selected: v === chosen }, v.replace("_", " ")))];
}

export function assetsTable(items: Asset[]): HTMLElement {
  return table(
    ["Name", "Kind", "State", "Owner", "Size", "Registered", "Id"],
    items.map((a) => [
      link.asset(a.id, a.name),
      a.kind,
      a.state.replace("_", " "),
      a.owner_name || short(a.owner),
      a.content ? bytes(a.content.size) : "–",
      link.block(a.registered_height),
      h("code", {}, short(a.id)),
    ]),
    "No asset matches.",
  );
}

export async function assets(query: URLSearchParams): Promise<HTMLElement> {
  const p = { q: query.get("q") ?? "", kind: query.get("kind") ?? "", state: query.get("state") ?? "", cursor: query.get("cursor") ?? "" };
  const page = await api.assets(p);
  const form = h(
    "form",
    {
      class: "search",
      role: "search",
      submit: (e) => {
        e.preventDefault();
        const data = new FormData(form);
        const next = new URLSearchParams();
        for (const [name, value] of data) if (value) next.set(name, String(value));
        location.hash = `#/assets?${next.toString()}`;
      },
    },
    h("label", { class: "grow" }, "Search by name or id (press / to come here)", h("input", { type: "search", name: "q", value: p.q, id: "search" })),
    h("label", {}, "Kind", h("select", { name: "kind" }, ...options(kinds, p.kind, "any"))),
    h("label", {}, "State", h("select", { name: "state" }, ...options(states, p.state, "any"))),
    h("button", { type: "submit" }, "Search"),
  );
  const next = new URLSearchParams(query);
  if (page.next) next.set("cursor", page.next);
  return h(
    "div",
    {},
    h("h1", {}, "Assets"),
    form,
    h("section", { class: "card" }, assetsTable(page.items)),
    h(
      "div",
      { class: "pager" },
      p.cursor ? h("a", { href: "#/assets" }, "First page") : null,
      page.next ? h("a", { href: `#/assets?${next.toString()}`, id: "next" }, "Next page") : h("span", { class: "dim" }, "End of the list"),
    ),
  );
}

export async function asset(id: string): Promise<HTMLElement> {
  const [a, history] = await Promise.all([api.asset(id), api.history(id)]);
  return h(
    "div",
    {},
    h("h1", {}, a.name),
    h(
      "section",
      { class: "card" },
      fields([
        ["Id", h("code", {}, a.id)],
        ["Kind", a.kind],
        ["State", a.state.replace("_", " ")],
        ["Owner", h("a", { href: `#/nodes/${a.owner}` }, a.owner_name || short(a.owner))],
        ["Policy", a.policy],
        ["Address", h("code", {}, a.addr)],
        ["Content", a.content ? `${bytes(a.content.size)} in ${a.content.chunks} chunk${a.content.chunks === 1 ? "" : "s"}` : "none"],
        ["Content root", a.content ? h("code", {}, a.content.root) : "–"],
        ["Registered in", link.block(a.registered_height)],
        ["Changed in", link.block(a.updated_height)],
        ["Download", a.content ? h("a", { href: `/v1/assets/${a.id}/content`, download: a.name.split("/").pop() ?? "content" }, "content, checked chunk by chunk") : "–"],
      ]),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "History"),
      table(
        ["Time", "What", "By", "Block", "Operation and proofs"],
        history.map((e) => [dateTime(e.time_ms), e.detail ? `${e.action}: ${e.detail}` : e.action, short(e.actor), link.block(e.height), link.op(e.op)]),
        "No history.",
      ),
    ),
  );
}

export async function operation(id: string): Promise<HTMLElement> {
  const [op, proofs] = await Promise.all([api.operation(id), api.proofs(id)]);
  return h(
    "div",
    {},
    h("h1", {}, "Operation"),
    h(
      "section",
      { class: "card" },
      fields([
        ["Id", h("code", {}, op.id)],
        ["What", `${op.module} ${op.kind}`],
        ["Asset", /^0*$/.test(op.asset) ? "none" : link.asset(op.asset)],
        ["Owner", h("a", { href: `#/nodes/${op.owner}` }, short(op.owner))],
        ["Nonce", String(op.nonce)],
        ["Final in", h("span", {}, link.block(op.height), `, place ${op.index + 1}, ${dateTime(op.time_ms)}`)],
      ]),
    ),
    h("h2", {}, "Proofs, checked again now"),
    h(
      "div",
      { class: "proofs" },
      ...proofs.map((p) =>
        h(
          "section",
          { class: "proof" },
          h("h3", {}, p.name, " ", h("span", { class: `state ${p.passed ? "good" : "bad"}` }, p.passed ? "holds" : "fails")),
          h("p", {}, p.summary),
          h("ul", {}, ...p.checks.map((c) => h("li", {}, h("span", { class: `state ${c.passed ? "good" : "bad"}` }, c.passed ? "✓ " : "✗ "), c.what, c.detail ? h("span", { class: "dim" }, ` (${c.detail})`) : null))),
        ),
      ),
    ),
  );
}

export async function block(height: string): Promise<HTMLElement> {
  const b = await api.block(height);
  return h(
    "div",
    {},
    h("h1", {}, `Block ${b.height}`),
    h(
      "section",
      { class: "card" },
      fields([
        ["Id", h("code", {}, b.id)],
        ["Parent", b.height > 1 ? h("a", { href: `#/blocks/${b.height - 1}`, class: "mono" }, short(b.parent)) : "genesis"],
        ["Time", dateTime(b.time_ms)],
        ["Proposer", h("a", { href: `#/nodes/${b.proposer}` }, b.proposer_name || short(b.proposer))],
        ["View", String(b.view)],
        ["Epoch", String(b.epoch)],
        ["State root", h("code", {}, b.state_root)],
        ["Operations root", h("code", {}, b.ops_root)],
      ]),
    ),
    h("section", { class: "card" }, h("h2", {}, `Operations (${b.ops_count})`), table(["Place", "Operation"], b.ops.map((id, i) => [String(i + 1), link.op(id)]), "An empty block.")),
  );
}

export async function blocks(): Promise<HTMLElement> {
  const page = await api.blocks();
  return h(
    "div",
    {},
    h("h1", {}, "Newest blocks"),
    h(
      "section",
      { class: "card" },
      table(
        ["Block", "Time", "Operations", "Proposer", "State root"],
        page.items.map((b) => [link.block(b.height), dateTime(b.time_ms), String(b.ops_count), b.proposer_name || short(b.proposer), h("code", {}, short(b.state_root))]),
        "No block yet.",
      ),
    ),
  );
}

export function node(n: MeshNode): HTMLElement {
  return h(
    "div",
    {},
    h("h1", {}, n.name || short(n.id)),
    h(
      "section",
      { class: "card" },
      fields([
        ["Id", h("code", {}, n.id)],
        ["State", stateOf(n)],
        ["Since", dateTime(n.since_ms)],
        ["Why", n.reason || "–"],
        ["Mesh address", h("code", {}, n.addr)],
        ["Overlay address", h("code", {}, n.overlay_addr)],
        ["Voting power", String(n.power)],
        ["Final height", String(n.height)],
        ["State root there", h("code", {}, n.state_root)],
        ["Round trip", n.self ? "–" : millis(n.rtt_us)],
      ]),
    ),
  );
}

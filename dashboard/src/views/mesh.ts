// The first page: is the mesh well, how fast is it, who is in it, what happened.
import type { MeshNode, Status } from "../api";
import { h, type Child } from "../dom";
import { ago, bytes, count, duration, plural, shortId, span } from "../format";
import { store } from "../store";
import { card, eventList, head, health, nodeState, pill, table } from "./parts";

const figure = (id: string, name: string, value: Child, note: Child): HTMLElement =>
  h("div", { class: "figure" }, h("dt", {}, name), h("dd", { id }, value), h("dd", { class: "note" }, note));

function figures(s: Status): HTMLElement {
  const rate = store.opsPerSecond();
  const blocks = store.finality();
  return h(
    "dl",
    { class: "figures" },
    figure("figure-nodes", "Nodes up", `${s.peers_connected + 1} of ${s.validators}`, `a quorum is ${s.quorum}`),
    figure("figure-height", "Final height", count(s.height), s.syncing ? "catching up" : s.final_time_ms ? `newest block ${ago(s.final_time_ms)}` : "no block yet"),
    figure(
      "figure-finality",
      "Time to finality",
      duration(blocks.p50),
      h(
        "span",
        { title: "Median and 99th percentile of the newest blocks, from proposal to final; of the last 1,024 operations submitted through this node, from submitting to final" },
        `p99 ${duration(blocks.p99)}`,
        s.finality_p50_us ? `; operations ${duration(s.finality_p50_us)}, p99 ${duration(s.finality_p99_us)}` : null,
      ),
    ),
    figure("figure-rate", "Operations", h("span", {}, rate < 10 ? rate.toFixed(1) : count(Math.round(rate)), h("small", {}, " / s")), `${count(s.ops_final)} final, ${count(s.pending_ops)} waiting`),
    figure("figure-stored", "Stored here", bytes(s.chunk_bytes_stored), plural(s.chunks_stored, "chunk")),
    figure("figure-epoch", "Epoch", count(s.epoch), `view ${count(s.view)}`),
  );
}

export function nodesTable(nodes: MeshNode[]): HTMLElement {
  const top = Math.max(0, ...nodes.map((n) => n.height));
  return table(
    "Nodes",
    ["Node", "State", ["Height", "num"], ["Round trip", "num"], ["Sent / received", "num"], "Id"],
    nodes.map((n) => ({
      key: n.id,
      class: n.state === "up" ? "" : "is-down",
      cells: [
        h("span", {}, h("a", { href: `#/nodes/${n.id}`, "data-row": true }, n.name), n.self ? h("small", { class: "dim" }, " this node") : null),
        h("span", {}, nodeState(n), n.state !== "up" ? h("small", { class: "dim" }, ` for ${span(Date.now() - n.since_ms)}`) : null, n.slashed_height ? h("small", {}, pill("bad", "slashed")) : null),
        h("span", {}, count(n.height), top - n.height > 2 ? h("small", { class: "dim" }, ` −${count(top - n.height)}`) : null),
        n.self ? "–" : n.state === "up" ? duration(n.rtt_us) : "–",
        n.self ? "–" : `${bytes(n.bytes_sent)} / ${bytes(n.bytes_received)}`,
        shortId(n.id, `id of ${n.name}`),
      ],
    })),
    "No nodes.",
  );
}

export function mesh(): HTMLElement {
  const s = store.status!;
  const state = health();
  return h(
    "div",
    { class: "mesh" },
    head("Mesh", h("p", { class: `health ${state.tone}`, id: "health" }, pill(state.tone, state.text))),
    figures(s),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        {},
        h("section", { class: "card" }, h("h2", {}, "Time to finality ", h("small", { class: "dim" }, "each block, from proposal to final")), h("div", { "data-keep": true, id: "chart" })),
        card("Nodes", h("div", { id: "nodes" }, nodesTable(store.nodes))),
      ),
      h("section", { class: "card side" }, h("h2", {}, "Events"), eventList(store.log, 12, "Nothing but blocks so far."), h("p", { class: "more" }, h("a", { href: "#/events" }, "All events"))),
    ),
  );
}

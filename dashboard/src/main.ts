// The page of a node: the mesh, live.
import { ApiError, UNREACHABLE } from "./api";
import { announce, changed, line, lookSoon, outage, start } from "./app";
import { FinalityChart } from "./chart";
import { h } from "./dom";
import { time } from "./format";
import { store } from "./store";
import { asset, assets } from "./views/assets";
import { block, blocks, operation, operations } from "./views/blocks";
import { events } from "./views/events";
import { mesh } from "./views/mesh";
import { name, nameActs, names } from "./views/names";
import { node } from "./views/node";
import { eventText } from "./views/parts";

const chart = new FinalityChart();
const opened_ms = Date.now();

function paintLine(): void {
  const name = store.status?.name;
  line.className = store.live ? "line live" : "line";
  line.textContent = store.live ? `live${name ? ` · ${name}` : ""}` : "no connection";
  const out = !store.live && store.heard_ms > 0;
  outage.hidden = !out;
  document.body.classList.toggle("is-out", out);
  if (out) outage.replaceChildren(h("p", {}, h("strong", {}, `${name ?? "The node"} does not answer.`), " What you see is from ", time(store.heard_ms), ". This page tries again by itself."));
}

store.onChange((change) => {
  if (change === "line") {
    paintLine();
    lookSoon();
    return;
  }
  if (change === "state") paintLine();
  const newest = store.log.at(-1);
  if (change === "log" && newest && newest.wall_ms > opened_ms && (newest.type === "peer_down" || newest.type === "peer_up" || newest.type === "evidence"))
    announce(eventText(newest).map((c) => (c instanceof Node ? c.textContent : c)).join(""));
  changed(change, change === "state");
});

store.start();
start({
  name: "HyperMesh",
  pages: {
    "": [{ tab: "#/", view: mesh, on: ["state", "log", "block", "operations"] }, null],
    nodes: [null, { tab: "#/", view: node, on: ["state", "log"] }],
    assets: [{ tab: "#/assets", view: (_, q) => assets(q), on: ["operations"] }, { tab: "#/assets", view: asset, on: ["operations"] }],
    names: [{ tab: "#/names", view: (_, q) => names(q), on: ["operations"] }, { tab: "#/names", view: name, on: ["operations"] }],
    blocks: [{ tab: "#/blocks", view: (_, q) => blocks(q), on: ["block", "operations"] }, { tab: "#/blocks", view: block, on: [] }],
    operations: [{ tab: "#/blocks", view: (_, q) => operations(q), on: ["operations"] }, { tab: "#/blocks", view: operation, on: [] }],
    events: [{ tab: "#/events", view: (_, q) => events(q), on: ["log", "block", "operations"] }, null],
  },
  tabs: [["#/", "Mesh"], ["#/assets", "Assets"], ["#/names", "Names"], ["#/blocks", "Blocks"], ["#/events", "Events"]],
  search: "#/assets",
  acts: nameActs,
  async ready() {
    if (!store.status) await store.refresh();
    if (!store.status) throw new ApiError(0, UNREACHABLE);
  },
  painted() {
    const place = document.getElementById("chart");
    if (!place) return;
    if (!place.contains(chart.element)) place.append(chart.element);
    chart.update(store.blocks);
  },
  looked() {}, // the store knows whether the node answers
});

// What happened, newest first, by kind.
import { h } from "../dom";
import { store } from "../store";
import type { EventType, NodeEvent } from "../api";
import { card, eventList, head } from "./parts";

const kinds: [string, string, EventType[]][] = [
  ["", "All but empty blocks", []],
  ["nodes", "Nodes lost and back", ["peer_up", "peer_down", "sync"]],
  ["refused", "Refused", ["refused"]],
  ["evidence", "Evidence", ["evidence"]],
  ["views", "Skipped views", ["nullified"]],
  ["content", "Repairs", ["repair"]],
  ["blocks", "Blocks", ["final"]],
];

export function events(query: URLSearchParams): HTMLElement {
  const chosen = kinds.find(([k]) => k === (query.get("kind") ?? "")) ?? kinds[0]!;
  const all: NodeEvent[] = [...store.log, ...store.blocks].sort((a, b) => a.wall_ms - b.wall_ms || a.seq - b.seq);
  const wanted = chosen[2].length ? all.filter((e) => chosen[2].includes(e.type)) : all.filter((e) => e.type !== "final" || e.count > 0);
  return h(
    "div",
    {},
    head("Events"),
    h(
      "nav",
      { class: "chips", "aria-label": "Kinds of events" },
      ...kinds.map(([k, text]) => h("a", { href: k ? `#/events?kind=${k}` : "#/events", ...(k === chosen[0] ? { "aria-current": "true" } : {}) }, text)),
    ),
    card(chosen[1], eventList(wanted, 200, "Nothing of this kind since the node started, as far as it remembers.")),
    h("p", { class: "dim hint" }, "A node remembers 128 blocks and 32 events of each other kind; its log file has all of them."),
  );
}

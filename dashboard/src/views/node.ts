// One node: who it is, whether it can be reached, and what the ledger knows of it.
import { ApiError } from "../api";
import { h } from "../dom";
import { bytes, count, duration, fullId, plural, span, time } from "../format";
import { store } from "../store";
import { card, crumb, eventList, facts, head, nodeState, pill } from "./parts";

export function node(id: string): HTMLElement {
  const n = store.node(id);
  const s = store.status!;
  if (!n) throw new ApiError(404, "No node of this mesh has that id.");
  const me = store.node(s.id);
  const cert = n.certificate;
  const certState = cert.revoked
    ? pill("bad", "revoked")
    : cert.not_after_ms < Date.now()
      ? pill("bad", "expired")
      : cert.not_after_ms < Date.now() + 5 * 86_400_000
        ? pill("warn", `ends in ${span(cert.not_after_ms - Date.now())}`)
        : pill("good", "in force");
  const agrees = n.height === me?.height ? (n.state_root === me.state_root ? pill("good", "same as here") : pill("bad", "differs from this node's")) : h("span", { class: "dim" }, `told at height ${count(n.height)}`);
  return h(
    "div",
    {},
    crumb("#/", "Mesh"),
    head(n.name, nodeState(n), n.self ? h("span", { class: "tag" }, "this node") : null, n.slashed_height ? pill("bad", "slashed") : null),
    n.slashed_height ? h("p", { class: "notice bad" }, "It contradicted itself: evidence against it became final in ", h("a", { href: `#/blocks/${n.slashed_height}` }, `block ${count(n.slashed_height)}`), ".") : null,
    h(
      "div",
      { class: "columns even" },
      card(
        "Connection",
        facts([
          ["State", h("span", {}, nodeState(n), h("span", { class: "dim" }, ` for ${span(n.self ? s.uptime_ms : Date.now() - n.since_ms)}`))],
          n.reason ? ["Reason", n.reason] : null,
          n.self ? ["Version", s.version] : ["Round trip", n.state === "up" ? duration(n.rtt_us) : "–"],
          n.self ? null : ["Sent to it", bytes(n.bytes_sent)],
          n.self ? null : ["Received from it", bytes(n.bytes_received)],
          ["Mesh address", h("code", {}, n.addr)],
          ["Overlay address", h("code", {}, n.overlay_addr)],
          n.api ? ["API", h("code", {}, n.api)] : null,
        ]),
      ),
      card(
        "Agreement",
        facts([
          ["Final height", h("span", {}, count(n.height), me && me.height - n.height > 2 ? h("span", { class: "dim" }, ` (${count(me.height - n.height)} behind this node)`) : null)],
          ["State root", h("span", {}, agrees, " ", fullId(n.state_root, "state root"))],
          ["Voting power", `${count(n.power)} of ${count(store.nodes.reduce((sum, x) => sum + x.power, 0))}`],
          ["Bonded stake", count(n.stake)],
          ["Sealed sector", `number ${n.sector.number}, ${bytes(n.sector.bytes)}`],
          ["Last space answer", n.sector.answered_epoch ? `epoch ${count(n.sector.answered_epoch)} (now ${count(s.epoch)})` : "the seal proof of the genesis"],
        ]),
      ),
      card(
        "Identity",
        facts([
          ["Node id", fullId(n.id, "node id")],
          ["Certificate", h("span", {}, certState, " FALCON-1024")],
          ["Valid", h("span", {}, time(cert.not_before_ms), " to ", time(cert.not_after_ms))],
          ["Serial", h("code", {}, cert.serial)],
          ["SHA-256", fullId(cert.sha256, "certificate fingerprint")],
        ]),
      ),
      n.self
        ? card(
            "Stored here",
            facts([
              ["Content", `${bytes(s.chunk_bytes_stored)} in ${plural(s.chunks_stored, "chunk")}`],
              ["Operations final", `${count(s.ops_final)} since it started`],
              ["Waiting", plural(s.pending_ops, "operation")],
              ["Chain id", fullId(s.chain_id, "chain id")],
            ]),
          )
        : card("Events", eventList(store.log.filter((e) => e.peer === n.id), 12, "Nothing happened to it as far as this node remembers.")),
    ),
  );
}

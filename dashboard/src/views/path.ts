// A proof of inclusion, drawn: from the entry at the foot up to the root of the tree.
import { h, s } from "../dom";
import { count, plural, short } from "../format";
import { hex, type Bytes } from "../trust/bytes";
import type { Step } from "../trust/tree";
import { pill } from "./parts";

const ROW = 58;
const MIDDLE = 170;
const ASIDE = 114;
const WIDTH = 2 * MIDDLE;

function node(x: number, y: number, kind: string, text: string): SVGElement {
  return s(
    "g",
    { class: `tree-node ${kind}`, transform: `translate(${x} ${y})` },
    s("rect", { x: "-52", y: "-13", width: "104", height: "26", rx: "6" }),
    s("text", { "text-anchor": "middle", y: "4" }, text),
  );
}
const edge = (x1: number, y1: number, x2: number, y2: number, kind: string): SVGElement =>
  s("line", { class: `tree-edge ${kind}`, x1: String(x1), y1: String(y1), x2: String(x2), y2: String(y2) });

export function proofPath(index: number, size: number, leaf: Bytes, steps: Step[], computed: Bytes, signed: Bytes, good: boolean): HTMLElement {
  const height = ROW * (steps.length + 1) + 40;
  const y = (level: number): number => height - 20 - level * ROW;
  const verdict = good ? "verified" : "failed";
  const label = `Entry ${index} of ${size}: ${plural(steps.length, "hash", "hashes")} lead from the entry to ${good ? "the root that the checkpoint signs" : "another root than the checkpoint signs"}: ${verdict}.`;
  const svg = s("svg", { class: `tree ${good ? "good" : "bad"}`, viewBox: `0 0 ${WIDTH} ${height}`, width: String(WIDTH), height: String(height), role: "img", "aria-label": label });
  steps.forEach((step, i) => {
    const x = step.side === "left" ? MIDDLE - ASIDE : MIDDLE + ASIDE;
    svg.append(edge(MIDDLE, y(i), MIDDLE, y(i + 1), "path"), edge(x, y(i), MIDDLE, y(i + 1), ""));
  });
  steps.forEach((step, i) => svg.append(node(step.side === "left" ? MIDDLE - ASIDE : MIDDLE + ASIDE, y(i), "sibling", short(hex(step.sibling)))));
  [leaf, ...steps.map((step) => step.result)].forEach((hash, i) =>
    svg.append(node(MIDDLE, y(i), i === steps.length ? "root" : i === 0 ? "leaf" : "path", short(hex(hash)))));
  svg.append(s("text", { class: "tick", x: String(MIDDLE), y: String(y(steps.length) - 20), "text-anchor": "middle" }, good ? "the signed root" : "not the signed root"));
  return h(
    "div",
    { class: "proof-path", "data-proof": verdict },
    h("p", {}, pill(good ? "good" : "bad", verdict), ` by this browser: entry ${count(index)} of a tree of ${count(size)}.`),
    svg,
    h("p", { class: "dim hint" }, "The middle column is computed here, from the foot up: each box is the SHA-256 of the two below it. The boxes aside came from the server. Only the true ones lead to the root that the log signed."),
    h(
      "details",
      { id: "proof-hashes" },
      h("summary", {}, "All hashes"),
      h(
        "ol",
        { class: "hashes" },
        h("li", {}, "entry ", h("code", {}, hex(leaf))),
        ...steps.map((step) => h("li", {}, `${step.side} `, h("code", {}, hex(step.sibling)), " gives ", h("code", {}, hex(step.result)))),
        h("li", {}, "computed ", h("code", {}, hex(computed))),
        h("li", {}, "signed ", h("code", {}, hex(signed))),
      ),
    ),
  );
}

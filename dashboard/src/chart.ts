// The time that each block took from proposal to final, on a logarithmic scale: one element that
// redraws itself when blocks come or its width changes.
import type { NodeEvent } from "./api";
import { h, s } from "./dom";
import { count, duration, plural } from "./format";
import { quantiles } from "./store";

const HEIGHT = 190;
const LEFT = 58;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 26;
const STEP = 7; // pixels a block
const STEPS_US = [1, 2, 5].flatMap((m) => [1e3, 1e4, 1e5, 1e6, 1e7, 1e8].map((p) => m * p)).sort((a, b) => a - b);

export class FinalityChart {
  readonly element = h("div", { class: "chart" });
  private readonly plot = h("div", { class: "plot", tabindex: "0", role: "img", id: "finality-chart" });
  private readonly figures = h("p", { class: "chart-figures" });
  private readonly reading = h("p", { class: "chart-reading", "aria-live": "polite" });
  private all: NodeEvent[] = [];
  private blocks: NodeEvent[] = [];
  private chosen: number | null = null; // height
  private width = 0;

  constructor() {
    this.element.append(this.figures, this.plot, this.reading);
    new ResizeObserver(() => {
      if (this.plot.clientWidth !== this.width) this.draw();
    }).observe(this.plot);
    this.plot.addEventListener("keydown", (e) => this.onKey(e));
    this.plot.addEventListener("pointermove", (e) => this.choose(this.at(e.offsetX)));
    this.plot.addEventListener("pointerleave", () => this.choose(null));
    this.plot.addEventListener("blur", () => this.choose(null));
    this.plot.addEventListener("click", (e) => this.open(this.at((e as MouseEvent).offsetX)));
  }

  update(blocks: NodeEvent[]): void {
    this.all = blocks.filter((b) => b.finality_us > 0);
    this.draw();
  }

  private x(i: number): number {
    return this.width - RIGHT - (this.blocks.length - 1 - i) * STEP;
  }
  private at(x: number): number | null {
    const i = Math.round(this.blocks.length - 1 - (this.width - RIGHT - x) / STEP);
    return this.blocks[Math.max(0, Math.min(this.blocks.length - 1, i))]?.height ?? null;
  }
  private open(height: number | null): void {
    if (height !== null) location.hash = `#/blocks/${height}`;
  }

  private onKey(e: KeyboardEvent): void {
    const i = this.blocks.findIndex((b) => b.height === this.chosen);
    const last = this.blocks.length - 1;
    const to = { ArrowLeft: i < 0 ? last : i - 1, ArrowRight: i < 0 ? last : i + 1, Home: 0, End: last }[e.key];
    if (to !== undefined) this.choose(this.blocks[Math.max(0, Math.min(last, to))]?.height ?? null);
    else if (e.key === "Enter" && this.chosen !== null) this.open(this.chosen);
    else if (e.key === "Escape") this.choose(null);
    else return;
    e.preventDefault();
  }

  private choose(height: number | null): void {
    if (height === this.chosen) return;
    this.chosen = height;
    this.draw();
  }

  private draw(): void {
    this.width = this.plot.clientWidth;
    if (this.width === 0) return;
    const room = Math.floor((this.width - LEFT - RIGHT) / STEP) + 1;
    this.blocks = this.all.slice(-Math.max(2, room));
    if (this.blocks.length === 0) {
      this.plot.replaceChildren(h("p", { class: "dim" }, "No block has become final since this page was opened."));
      this.figures.textContent = "";
      return;
    }
    const { p50, p99 } = quantiles(this.all.map((b) => b.finality_us)); // also of those left of the edge
    const seen = [p50, p99, ...this.blocks.map((b) => b.finality_us)];
    const low = STEPS_US.filter((v) => v <= Math.min(...seen) * 0.9).at(-1) ?? 1e3;
    const high = STEPS_US.find((v) => v >= Math.max(...seen) * 1.1) ?? 5e8;
    const y = (us: number): number => TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.log(us / low) / Math.log(high / low));
    const svg = s("svg", { width: String(this.width), height: String(HEIGHT), "aria-hidden": "true" });

    let ticks = STEPS_US.filter((v) => v >= low && v <= high);
    if (ticks.length > 6) ticks = ticks.filter((v) => /^1/.test(String(v)));
    for (const v of ticks)
      svg.append(
        s("line", { class: "grid", x1: String(LEFT), x2: String(this.width - RIGHT), y1: String(y(v)), y2: String(y(v)) }),
        s("text", { class: "tick", x: String(LEFT - 8), y: String(y(v) + 4), "text-anchor": "end" }, duration(v).replace(".0", "")),
      );
    const point = (b: NodeEvent, i: number): string => `${this.x(i)},${y(b.finality_us).toFixed(1)}`;
    svg.append(s("polyline", { class: "trace", points: this.blocks.map(point).join(" ") }));
    for (const [us, name] of [[p99, "p99"], [p50, "p50"]] as const)
      svg.append(s("line", { class: `level ${name}`, x1: String(LEFT), x2: String(this.width - RIGHT), y1: String(y(us)), y2: String(y(us)) }));
    this.blocks.forEach((b, i) => {
      const mark = b.count > 0 ? "point work" : "point";
      svg.append(s("circle", { class: b.height === this.chosen ? `${mark} chosen` : mark, cx: String(this.x(i)), cy: y(b.finality_us).toFixed(1), r: b.height === this.chosen ? "5" : b.count > 0 ? "3" : "2" }));
    });
    const first = this.blocks[0]!;
    const newest = this.blocks.at(-1)!;
    const label = (x: number, anchor: string, text: string): void =>
      svg.append(s("text", { class: "tick", x: String(x), y: String(HEIGHT - 6), "text-anchor": anchor }, text));
    label(this.width - RIGHT, "end", `block ${count(newest.height)}`);
    if (this.x(0) < this.width - 220) label(Math.max(this.x(0), LEFT), "start", `block ${count(first.height)}`);

    this.plot.replaceChildren(svg);
    this.plot.setAttribute(
      "aria-label",
      `Time to finality of the newest ${plural(this.all.length, "block")}: median ${duration(p50)}, 99th percentile ${duration(p99)}. Arrow keys read single blocks, Enter opens one.`,
    );
    this.figures.replaceChildren(
      h("span", { class: "level-key p50" }, `median ${duration(p50)}`),
      h("span", { class: "level-key p99" }, `p99 ${duration(p99)}`),
      h("span", { class: "level-key work" }, "with operations"),
      h("span", {}, `newest ${plural(this.all.length, "block")}`),
    );
    const b = this.blocks.find((x) => x.height === this.chosen);
    this.reading.textContent = b ? `Block ${count(b.height)}: ${duration(b.finality_us)}, ${plural(b.count, "operation")}` : "";
  }
}

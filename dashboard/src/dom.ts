// Building elements without a framework: text is always text, never markup.

type Child = Node | string | number | null | undefined | false;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attrs: Record<string, string | boolean | ((e: Event) => void)> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (typeof value === "function") el.addEventListener(name, value);
    else if (value === true) el.setAttribute(name, "");
    else if (value !== false) el.setAttribute(name, value);
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    el.append(typeof child === "number" ? String(child) : child);
  }
  return el;
}

/** A table that becomes a list of cards at phone width; `empty` is said when there are no rows. */
export function table(heads: string[], rows: Child[][], empty: string): HTMLElement {
  if (rows.length === 0) return h("p", { class: "dim" }, empty);
  return h(
    "table",
    { class: "stack" },
    h("thead", {}, h("tr", {}, ...heads.map((t) => h("th", { scope: "col" }, t)))),
    h(
      "tbody",
      {},
      ...rows.map((cells) =>
        h("tr", {}, ...cells.map((c, i) => h("td", { "data-label": heads[i] ?? "" }, h("span", {}, c)))),
      ),
    ),
  );
}

export function fields(pairs: [string, Child][]): HTMLElement {
  const dl = h("dl", { class: "fields" });
  for (const [name, value] of pairs) dl.append(h("dt", {}, name), h("dd", {}, value));
  return dl;
}

export function spark(values: number[]): SVGSVGElement {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const top = Math.max(1, ...values);
  const line = document.createElementNS(ns, "polyline");
  const step = values.length > 1 ? 100 / (values.length - 1) : 100;
  line.setAttribute("points", values.map((v, i) => `${i * step},${98 - (v / top) * 94}`).join(" "));
  svg.append(line);
  return svg;
}

export const short = (hex: string): string => (hex.length > 16 ? `${hex.slice(0, 8)}…${hex.slice(-6)}` : hex);

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}

export const millis = (us: number): string => (us ? `${(us / 1000).toFixed(us < 10000 ? 1 : 0)} ms` : "–");
export const clockTime = (ms: number): string => new Date(ms).toLocaleTimeString();
export const dateTime = (ms: number): string => (ms ? new Date(ms).toLocaleString() : "–");

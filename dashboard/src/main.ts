// The page: routes by hash, refreshed in place when something of theirs changes.
import { ApiError, UNREACHABLE } from "./api";
import { FinalityChart } from "./chart";
import { h, morph } from "./dom";
import { time } from "./format";
import { store, type Change } from "./store";
import { asset, assets, hashOf } from "./views/assets";
import { block, blocks, operation, operations } from "./views/blocks";
import { events } from "./views/events";
import { mesh } from "./views/mesh";
import { node } from "./views/node";
import { eventText } from "./views/parts";

interface Route {
  tab: string;
  view: (arg: string, query: URLSearchParams) => HTMLElement | Promise<HTMLElement>;
  /** What makes it look again. */
  on: Change[];
}
const pages: Record<string, [list: Route | null, one: Route | null]> = {
  "": [{ tab: "#/", view: mesh, on: ["state", "log", "block", "operations"] }, null],
  nodes: [null, { tab: "#/", view: node, on: ["state", "log"] }],
  assets: [{ tab: "#/assets", view: (_, q) => assets(q), on: ["operations"] }, { tab: "#/assets", view: asset, on: ["operations"] }],
  blocks: [{ tab: "#/blocks", view: (_, q) => blocks(q), on: ["block", "operations"] }, { tab: "#/blocks", view: block, on: [] }],
  operations: [{ tab: "#/blocks", view: (_, q) => operations(q), on: ["operations"] }, { tab: "#/blocks", view: operation, on: [] }],
  events: [{ tab: "#/events", view: (_, q) => events(q), on: ["log", "block", "operations"] }, null],
};
const AGAIN_MS = 300; // between two looks

const main = document.getElementById("main") as HTMLElement;
const announce = document.getElementById("announce") as HTMLElement;
const tabs: [string, string][] = [["#/", "Mesh"], ["#/assets", "Assets"], ["#/blocks", "Blocks"], ["#/events", "Events"]];
const nav = h("nav", { "aria-label": "Pages", class: "tabs" }, ...tabs.map(([href, text]) => h("a", { href }, text)));
const line = h("p", { class: "line", id: "line" }, "connecting");
const outage = h("div", { class: "outage", id: "outage", role: "alert", hidden: true });
document.getElementById("top")!.append(
  h("div", { class: "bar" }, h("a", { class: "brand", href: "#/" }, h("img", { src: "/icon.svg", alt: "", width: "24", height: "24" }), "HyperMesh"), nav, line),
);
main.before(outage);
const chart = new FinalityChart();

// ---- routes -------------------------------------------------------------------------------------

let visit = 0; // counts navigations, so that a slow answer cannot overwrite a newer page
let current: Route | null = null;
let shown: string | null = null; // path and cursor
let failed: ApiError | null = null;

function parse(): { route: Route | null; arg: string; query: URLSearchParams } {
  const [path = "", search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  let parts: string[];
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    parts = ["?"];
  }
  const [name = "", arg = ""] = parts;
  const found = Object.hasOwn(pages, name) && parts.length <= 2 ? pages[name]![arg ? 1 : 0] : null;
  return { route: found, arg, query: new URLSearchParams(search) };
}

function errorPage(e: ApiError): HTMLElement {
  return h(
    "section",
    { class: "card error" },
    h("h1", {}, e.status === 404 ? "Not found" : e.status === 0 ? "No answer" : "This cannot be shown"),
    h("p", {}, e.message),
    h("p", {}, h("a", { class: "button", href: "#/" }, "To the mesh"), " ", h("button", { type: "button", "data-again": true }, "Try again")),
  );
}

async function content(route: Route | null, arg: string, query: URLSearchParams): Promise<HTMLElement> {
  try {
    if (!route) throw new ApiError(404, "There is no such page.");
    if (!store.status) await store.refresh();
    if (!store.status) throw new ApiError(0, UNREACHABLE);
    const element = await route.view(arg, query);
    failed = null;
    return element;
  } catch (e) {
    failed = e instanceof ApiError ? e : new ApiError(500, String(e));
    return errorPage(failed);
  }
}

function mountChart(): void {
  const place = document.getElementById("chart");
  if (!place) return;
  if (!place.contains(chart.element)) place.append(chart.element);
  chart.update(store.blocks);
}

/** What was typed is the field's own; an address that says otherwise wins, unless it is being typed. */
function fillForm(query: URLSearchParams): void {
  for (const field of main.querySelectorAll<HTMLInputElement | HTMLSelectElement>("#asset-search [name]"))
    if (field !== document.activeElement) field.value = query.get(field.name) ?? "";
}

/** Shows what the address names, as a new page. */
async function navigate(): Promise<void> {
  const mine = ++visit;
  const { route, arg, query } = parse();
  for (const a of nav.children) {
    if (a.getAttribute("href") === route?.tab) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  const element = await content(route, arg, query);
  if (mine !== visit) return;
  current = route;
  main.removeAttribute("aria-busy");
  const cursor = query.get("cursor") ?? "";
  const name = `${location.hash.split("?")[0]} ${cursor}`;
  const samePage = shown === name;
  // A search goes on in its field; another page begins at its top, which is read first.
  if (samePage && main.firstElementChild) morph(main.firstElementChild, element);
  else {
    main.replaceChildren(element);
    if (visit > 1) main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  shown = name;
  fillForm(query);
  const heading = main.querySelector("h1")?.textContent ?? "";
  document.title = `${heading} – HyperMesh`;
  mountChart();
}

let waiting = false;
let looking = false;
let again = false;
/** Looks at the same page again and changes what is different. */
async function look(): Promise<void> {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  const mine = visit;
  const { route, arg, query } = parse();
  const before = failed;
  if (route && route === current) {
    const element = await content(route, arg, query);
    // What was shown stays while the node does not answer; the line at the top says so.
    if (mine === visit && main.firstElementChild && (failed === null || before !== null)) {
      morph(main.firstElementChild, element);
      mountChart();
    }
    if (failed && !before) failed = null;
  }
  looking = false;
  if (again) {
    again = false;
    lookSoon();
  }
}
function lookSoon(): void {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    void look();
  }, AGAIN_MS);
}

// ---- what changes -------------------------------------------------------------------------------

function paintLine(): void {
  const name = store.status?.name;
  line.className = store.live ? "line live" : "line";
  line.textContent = store.live ? `live${name ? ` · ${name}` : ""}` : "no connection";
  const out = !store.live && store.heard_ms > 0;
  outage.hidden = !out;
  document.body.classList.toggle("is-out", out);
  if (out) outage.replaceChildren(h("p", {}, h("strong", {}, `${name ?? "The node"} does not answer.`), " What you see is from ", time(store.heard_ms), ". This page tries again by itself."));
}

const opened_ms = Date.now();
store.onChange((change) => {
  if (change === "line") {
    paintLine();
    lookSoon();
    return;
  }
  if (change === "state") paintLine();
  const newest = store.log.at(-1);
  if (change === "log" && newest && newest.wall_ms > opened_ms && (newest.type === "peer_down" || newest.type === "peer_up" || newest.type === "evidence"))
    announce.textContent = eventText(newest).map((c) => (c instanceof Node ? c.textContent : c)).join("");
  if (current?.on.includes(change) || (failed && change === "state")) lookSoon();
});

addEventListener("hashchange", () => void navigate());

// ---- hands --------------------------------------------------------------------------------------

async function copy(button: HTMLElement): Promise<void> {
  const done = await navigator.clipboard.writeText(button.dataset["copy"] ?? "").then(() => true, () => false);
  button.classList.add(done ? "done" : "failed");
  announce.textContent = done ? "Copied" : "This browser does not let the page copy";
  setTimeout(() => button.classList.remove("done", "failed"), 1500);
}

addEventListener("click", (e) => {
  const target = e.target as Element;
  const button = target.closest<HTMLElement>("[data-copy]");
  if (button) void copy(button);
  if (target.closest("[data-again]")) void navigate();
  if (target.closest(".skip")) {
    e.preventDefault(); // the address is the page's
    main.focus();
  }
});

let typing = 0;
function search(form: HTMLFormElement): void {
  const q: Record<string, string> = {};
  for (const [name, value] of new FormData(form)) q[name] = String(value).trim();
  const to = hashOf(q);
  if (to === (location.hash || "#/assets")) return;
  history.replaceState(null, "", to); // a letter is no page to come back to
  void navigate();
}
document.addEventListener("input", (e) => {
  const form = (e.target as HTMLElement).closest<HTMLFormElement>("#asset-search");
  if (!form) return;
  clearTimeout(typing);
  typing = window.setTimeout(() => search(form), e.target instanceof HTMLSelectElement ? 0 : 200);
});
document.addEventListener("submit", (e) => {
  e.preventDefault();
  clearTimeout(typing);
  search(e.target as HTMLFormElement);
});

/** From row to row. */
function step(from: Element, by: number): boolean {
  const row = from.closest("tr, li");
  if (!row || !from.closest("table, ol")) return false;
  const links = [...(from.closest("tbody, ol")?.querySelectorAll<HTMLElement>("[data-row]") ?? [])];
  const at = links.findIndex((l) => row.contains(l));
  const to = links[at + by];
  if (at < 0 || !to) return false;
  to.focus();
  return true;
}

addEventListener("keydown", (e) => {
  const target = e.target as HTMLElement;
  const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "/" && !writing) {
    e.preventDefault();
    const field = document.getElementById("search");
    if (field) field.focus();
    else {
      location.hash = "#/assets";
      const wait = new MutationObserver(() => {
        const found = document.getElementById("search");
        if (!found) return;
        wait.disconnect();
        setTimeout(() => found.focus());
      });
      wait.observe(main, { childList: true });
    }
  } else if (e.key === "Escape" && target.id === "search") {
    (target as HTMLInputElement).value = "";
    search((target as HTMLInputElement).form!);
  } else if ((e.key === "ArrowDown" || e.key === "ArrowUp") && !writing) {
    if (step(target, e.key === "ArrowDown" ? 1 : -1)) e.preventDefault();
  } else if (e.key === "ArrowDown" && target.id === "search") {
    const first = main.querySelector<HTMLElement>("[data-row]");
    if (first) {
      e.preventDefault();
      first.focus();
    }
  }
});

store.start();
void navigate();

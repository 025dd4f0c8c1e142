// The page: routes by hash, live figures by server-sent events. What is on the screen is never
// rebuilt under the reader's hands: live parts are replaced in place, pages only on navigation.
import { ApiError, api, subscribe, type MeshNode, type NodeEvent, type Status } from "./api";
import { h, spark } from "./dom";
import * as views from "./views";

const main = document.getElementById("main") as HTMLElement;
const announce = document.getElementById("announce") as HTMLElement;
const linkState = h("span", { class: "link-state" }, "connecting");
const log = h("ul", { class: "log", id: "events", "aria-label": "Events, newest first" });
const LOG_MAX = 200;
const SPARK_MAX = 120;

let status: Status | null = null;
let nodes: MeshNode[] = [];
const finality: number[] = [];
let visit = 0; // counts navigations, so that a slow answer cannot overwrite a newer page

const nameOf = (id: string): string => nodes.find((n) => n.id === id)?.name || id.slice(0, 8);

const pages: [string, string][] = [["#/", "Mesh"], ["#/assets", "Assets"], ["#/blocks", "Blocks"]];
const nav = h("nav", { "aria-label": "Pages" }, ...pages.map(([href, text]) => h("a", { href }, text)));
document.getElementById("top")!.append(h("div", { class: "bar" }, h("a", { class: "brand", href: "#/" }, "HyperMesh"), nav, linkState));

async function content(path: string, query: URLSearchParams): Promise<HTMLElement> {
  const [page = "", arg = ""] = path.split("/").map(decodeURIComponent);
  switch (page) {
    case "":
      await refresh();
      return views.overview(status!, nodes, finality, log);
    case "assets":
      return arg ? views.asset(arg) : views.assets(query);
    case "operations":
      return views.operation(arg);
    case "blocks":
      return arg ? views.block(arg) : views.blocks();
    case "nodes": {
      const found = (await api.nodes()).find((n) => n.id === arg);
      if (!found) throw new ApiError(404, "notfound", "No validator of this chain has that id.");
      return views.node(found);
    }
    default:
      throw new ApiError(404, "notfound", "There is no such page.");
  }
}

async function show(): Promise<void> {
  const mine = ++visit;
  const [path = "", search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  for (const a of nav.children)
    a.toggleAttribute("aria-current", false);
  const current = path.split("/")[0] ?? "";
  const tab = nav.querySelector(`a[href="#/${current}"]`);
  tab?.setAttribute("aria-current", "page");
  let element: HTMLElement;
  try {
    element = await content(path, new URLSearchParams(search));
  } catch (e) {
    const text = e instanceof Error ? e.message : String(e);
    element = h("section", { class: "card error" }, h("h1", {}, "This cannot be shown"), h("p", {}, text), h("button", { click: () => void show() }, "Try again"));
  }
  if (mine !== visit) return;
  main.replaceChildren(element);
  const title = main.querySelector("h1")?.textContent ?? "";
  document.title = title ? `${title} – HyperMesh` : "HyperMesh";
  if (shown) main.focus({ preventScroll: false });
  shown = true;
}
let shown = false;

async function refresh(): Promise<void> {
  [status, nodes] = await Promise.all([api.status(), api.nodes()]);
}

/** Replaces the live parts of the overview, if it is on the screen. */
function paint(): void {
  if (!status) return;
  document.getElementById("figures")?.replaceWith(views.figures(status));
  document.getElementById("nodes")?.replaceChildren(views.nodesTable(nodes));
  document.getElementById("spark")?.replaceChildren(spark(finality));
}

let refreshing = false;
let again = false;
async function refreshSoon(): Promise<void> {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  try {
    do {
      again = false;
      await refresh();
      // A focused link inside the table would lose its focus: wait until it is left.
      if (!document.getElementById("nodes")?.contains(document.activeElement)) paint();
    } while (again);
  } catch {
    // The event line says that the node is gone; it calls again when it is back.
  } finally {
    refreshing = false;
  }
}

function onEvent(e: NodeEvent): void {
  if (e.type === "final") {
    if (e.finality_us) finality.push(e.finality_us / 1000);
    if (finality.length > SPARK_MAX) finality.shift();
  } else {
    announce.textContent = views.eventLine(e, nameOf).textContent;
  }
  // Empty blocks are the pulse, not news.
  if (e.type !== "final" || e.count > 0) {
    log.prepend(views.eventLine(e, nameOf));
    while (log.children.length > LOG_MAX) log.lastElementChild?.remove();
  }
  void refreshSoon();
}

function onLive(up: boolean): void {
  linkState.textContent = up ? "live" : "node does not answer, trying again";
  linkState.classList.toggle("live", up);
  if (up) void refreshSoon();
}

addEventListener("hashchange", () => void show());
addEventListener("keydown", (e) => {
  const target = e.target as HTMLElement;
  if (e.key !== "/" || e.ctrlKey || e.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
  e.preventDefault();
  const search = document.getElementById("search");
  if (search) search.focus();
  else {
    location.hash = "#/assets";
    const wait = new MutationObserver(() => {
      const found = document.getElementById("search");
      if (found) {
        wait.disconnect();
        found.focus();
      }
    });
    wait.observe(main, { childList: true });
  }
});

void show();
subscribe(onEvent, onLive);

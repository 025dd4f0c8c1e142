// The frame of a page: routes by hash, refreshed in place, forms that do something, the keyboard.
import { ApiError, query } from "./api";
import { h, morph, type Child } from "./dom";

export interface Route {
  tab: string;
  view: (arg: string, query: URLSearchParams) => HTMLElement | Promise<HTMLElement>;
  /** What makes it look again. */
  on: string[];
}
export interface App {
  name: string;
  /** By the first word of the address: without and with an argument. */
  pages: Record<string, [list: Route | null, one: Route | null]>;
  tabs: [href: string, text: string][];
  /** The page that "/" searches in. */
  search: string;
  /** Throws an ApiError while nothing can be shown. */
  ready(): Promise<void>;
  /** After the page was made or refreshed. */
  painted(): void;
  /** After each look: whether it failed. */
  looked(failed: ApiError | null): void;
  /** What a form with this name in data-act does; what it gives is shown in the form. */
  acts: Record<string, (form: HTMLFormElement) => Promise<Child>>;
}
const AGAIN_MS = 300; // between two looks

export const hashTo = (base: string, params: Record<string, string>): string => base + query(params);

export const main = document.getElementById("main") as HTMLElement;
const announcer = document.getElementById("announce") as HTMLElement;
export const announce = (text: string): void => {
  announcer.textContent = text;
};
export const line = h("p", { class: "line", id: "line" }, "connecting");
export const outage = h("div", { class: "outage", id: "outage", role: "alert", hidden: true });

let app: App;
let nav: HTMLElement;

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
  const found = Object.hasOwn(app.pages, name) && parts.length <= 2 ? app.pages[name]![arg ? 1 : 0] : null;
  return { route: found, arg, query: new URLSearchParams(search) };
}

function errorPage(e: ApiError): HTMLElement {
  return h(
    "section",
    { class: "card error" },
    h("h1", {}, e.status === 404 ? "Not found" : e.status === 0 ? "No answer" : "This cannot be shown"),
    h("p", {}, e.message),
    h("p", {}, h("a", { class: "button", href: "#/" }, `To ${app.tabs[0]![1].toLowerCase()}`), " ", h("button", { type: "button", "data-again": true }, "Try again")),
  );
}

async function content(route: Route | null, arg: string, query: URLSearchParams): Promise<HTMLElement> {
  try {
    if (!route) throw new ApiError(404, "There is no such page.");
    await app.ready();
    const element = await route.view(arg, query);
    failed = null;
    return element;
  } catch (e) {
    failed = e instanceof ApiError ? e : new ApiError(500, String(e));
    return errorPage(failed);
  } finally {
    app.looked(failed);
  }
}

/** What was typed is the field's own; an address that says otherwise wins, unless it is being typed. */
function fillForm(query: URLSearchParams): void {
  for (const field of main.querySelectorAll<HTMLInputElement | HTMLSelectElement>("form.search [name]"))
    if (field !== document.activeElement) field.value = query.get(field.name) ?? "";
}

/** Shows what the address names, as a new page. */
export async function navigate(): Promise<void> {
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
  document.title = `${heading} – ${app.name}`;
  app.painted();
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
    // What was shown stays while the server does not answer; the line at the top says so.
    if (mine === visit && main.firstElementChild && (failed === null || before !== null)) {
      morph(main.firstElementChild, element);
      app.painted();
    }
    if (failed && !before) failed = null;
  }
  looking = false;
  if (again) {
    again = false;
    lookSoon();
  }
}
export function lookSoon(): void {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    void look();
  }, AGAIN_MS);
}
/** Something of this kind changed; always: also for a page that shows why it cannot be shown. */
export function changed(kind: string, always = false): void {
  if (current?.on.includes(kind) || (failed && always)) lookSoon();
}

// ---- hands --------------------------------------------------------------------------------------

async function copy(button: HTMLElement): Promise<void> {
  const done = await navigator.clipboard.writeText(button.dataset["copy"] ?? "").then(() => true, () => false);
  button.classList.add(done ? "done" : "failed");
  announce(done ? "Copied" : "This browser does not let the page copy");
  setTimeout(() => button.classList.remove("done", "failed"), 1500);
}

/** Gives the text in data-save as a file. */
function save(button: HTMLElement): void {
  const url = URL.createObjectURL(new Blob([button.dataset["save"] ?? ""], { type: "application/octet-stream" }));
  h("a", { href: url, download: button.dataset["file"] ?? "file" }).click();
  setTimeout(() => URL.revokeObjectURL(url));
}

function onClick(e: MouseEvent): void {
  const target = e.target as Element;
  const copied = target.closest<HTMLElement>("[data-copy]");
  const saved = target.closest<HTMLElement>("[data-save]");
  if (copied) void copy(copied);
  if (saved) save(saved);
  if (target.closest("[data-again]")) void navigate();
  if (target.closest(".skip")) {
    e.preventDefault(); // the address is the page's
    main.focus();
  }
}

let typing = 0;
function search(form: HTMLFormElement): void {
  const q: Record<string, string> = {};
  const base = form.dataset["page"] ?? "#/";
  for (const [name, value] of new FormData(form)) q[name] = String(value).trim();
  const to = hashTo(base, q);
  if (to === (location.hash || base)) return;
  history.replaceState(null, "", to); // a letter is no page to come back to
  void navigate();
}
function onInput(e: Event): void {
  const form = (e.target as HTMLElement).closest<HTMLFormElement>("form.search");
  if (!form) return;
  clearTimeout(typing);
  typing = window.setTimeout(() => search(form), e.target instanceof HTMLSelectElement ? 0 : 200);
}

async function act(form: HTMLFormElement): Promise<void> {
  const what = app.acts[form.dataset["act"] ?? ""];
  const outcome = form.querySelector<HTMLElement>(".outcome");
  if (!what || !outcome || form.getAttribute("aria-busy") === "true") return;
  form.setAttribute("aria-busy", "true");
  outcome.className = "outcome";
  outcome.textContent = "Wait …";
  try {
    const said = await what(form);
    outcome.className = "outcome good";
    outcome.replaceChildren(said instanceof Node ? said : String(said || "Done."));
    announce(outcome.textContent ?? "");
  } catch (e) {
    outcome.className = "outcome bad";
    outcome.textContent = e instanceof Error ? e.message : String(e);
  }
  form.removeAttribute("aria-busy");
  lookSoon();
}
function onSubmit(e: SubmitEvent): void {
  const form = e.target as HTMLFormElement;
  e.preventDefault();
  if (form.dataset["act"]) void act(form);
  else {
    clearTimeout(typing);
    search(form);
  }
}

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

function toSearch(): void {
  const field = document.getElementById("search");
  if (field) {
    field.focus();
    return;
  }
  location.hash = app.search;
  const wait = new MutationObserver(() => {
    const found = document.getElementById("search");
    if (!found) return;
    wait.disconnect();
    setTimeout(() => found.focus());
  });
  wait.observe(main, { childList: true });
}

function onKey(e: KeyboardEvent): void {
  const target = e.target as HTMLElement;
  const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "/" && !writing) {
    e.preventDefault();
    toSearch();
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
}

export function start(of: App): void {
  app = of;
  nav = h("nav", { "aria-label": "Pages", class: "tabs" }, ...app.tabs.map(([href, text]) => h("a", { href }, text)));
  document.getElementById("top")!.append(
    h("div", { class: "bar" }, h("a", { class: "brand", href: "#/" }, h("img", { src: "/icon.svg", alt: "", width: "24", height: "24" }), app.name), nav, line),
  );
  main.before(outage);
  addEventListener("hashchange", () => {
    clearTimeout(typing); // who went on does not come back to what was being typed
    void navigate();
  });
  addEventListener("click", onClick);
  document.addEventListener("input", onInput);
  document.addEventListener("submit", onSubmit);
  addEventListener("keydown", onKey);
  void navigate();
}

// Names of the mesh's zone in the DNS: the list, registering, and one name with its records.
import { get, id, post, query as queryOf, session, type Page } from "../api";
import { h, type Child } from "../dom";
import { foreign, fullId, plural, time } from "../format";
import { store } from "../store";
import { actForm, confirm, field, valueOf } from "./form";
import { assetState, card, crumb, facts, head, link, pager, pill, table } from "./parts";

interface DnsRecord { type: string; ttl: number; data: string }
interface Name {
  name: string; full: string; asset: string; owner: string; owner_name: string; state: string; published: boolean;
  registered_ms: number; expires_ms: number; records: DnsRecord[];
}
interface Zone { zone: string; serial: number; keys: { node: string; name: string; tag: number; ds: string }[] }

const DAY_S = 86400;
const LINES = "2001:db8::80\nTXT v=1\n300 AAAA 2001:db8::81";

/** What the API's own address, by HTTPS, can do and a plain one cannot. */
const writes = location.protocol === "https:";
const self = (): { id: string; api: string; name: string } | undefined => store.nodes.find((n) => n.self);

function readsOnly(): Child {
  const api = self()?.api;
  return h("p", { class: "notice", id: "reads-only" }, "This address only reads. To register or change names, open this page at the node's HTTPS API: ", api ? h("a", { href: `${api}/${location.hash}` }, api) : "see --api-listen", ". The browser must know the mesh's edge root.");
}

/** One record a line, [TTL] [TYPE] DATA; an address alone is an AAAA record. */
function parseRecords(text: string): { type: string; ttl?: number; data: string }[] {
  return text
    .split("\n")
    .map((l) => l.trim())
    .filter((l) => l && !l.startsWith(";"))
    .map((l, i) => {
      const m = /^(?:(\d{1,6})\s+)?(?:(AAAA|TXT|NS|DS)\s+)?(\S.*)$/i.exec(l);
      const type = m?.[2]?.toUpperCase() ?? "AAAA";
      const data = m?.[3] ?? "";
      if (!m || (!m[2] && !/^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(data))) throw new Error(`Line ${i + 1}: write [TTL] TYPE DATA, with AAAA, TXT, NS or DS. "${l.slice(0, 60)}" is none.`);
      return { type, data, ...(m[1] ? { ttl: Number(m[1]) } : {}) };
    });
}
/** A text's quotes are the answer's, not its own. */
const recordLine = (r: DnsRecord): string => `${r.ttl} ${r.type} ${r.data}`;

const tokenCard = (): Child =>
  session.token
    ? card("Token", h("p", { class: "dim" }, "This tab has a token, in its memory alone."), actForm("forget", "Forget it"))
    : card(
        "Token",
        h("p", { class: "dim" }, "Changes need the node's token (", h("code", {}, "DIR/api.token"), "). It stays in the memory of this tab, nowhere else, until the tab is reloaded or closed."),
        actForm("token", "Use this token", field("Token", h("input", { type: "password", name: "token", required: true, spellcheck: "false", maxlength: "256" }))),
      );

const nameLink = (n: Name): HTMLElement => h("a", { href: `#/names/${id(n.name)}`, "data-row": true, class: "clamp" }, foreign(n.name));
const nameState = (n: Name): Child => (n.published ? pill("good", "published") : n.expires_ms <= Date.now() ? pill("idle", "expired") : assetState(n.state));

export async function names(query: URLSearchParams): Promise<HTMLElement> {
  const [q, cursor] = [query.get("q") ?? "", query.get("cursor") ?? ""];
  const [page, zone] = await Promise.all([get<Page<Name>>(`/v1/names${queryOf({ q, cursor, limit: "50" })}`), get<Zone>("/v1/zone")]);
  return h(
    "div",
    {},
    head("Names", h("span", { class: "tag" }, zone.zone)),
    h("p", { class: "lead dim" }, `Names below ${zone.zone} are on the ledger; every node that serves the DNS answers for them, signed. Whoever registers a name first has it, until it ends.`),
    writes ? null : readsOnly(),
    h(
      "form",
      { class: "search two", role: "search", "data-page": "#/names", autocomplete: "off" },
      h("label", { class: "grow" }, h("span", {}, "Name ", h("kbd", {}, "/")), h("input", { type: "search", name: "q", value: q, id: "search", maxlength: "255", spellcheck: "false", placeholder: "part of a name" })),
    ),
    h(
      "section",
      { class: "card", "aria-label": "Names found" },
      table(
        "Names",
        ["Name", "State", "Owner", "Records", "Ends"],
        page.items.map((n) => ({
          key: n.asset,
          class: n.published ? "" : "quiet",
          cells: [nameLink(n), nameState(n), link.node(n.owner, n.owner_name), n.records.length ? h("span", { class: "clamp" }, foreign(n.records.map((r) => `${r.type} ${r.data}`).join(", "))) : h("span", { class: "dim" }, "none"), time(n.expires_ms)],
        })),
        h("span", {}, page.next ? "None of those looked at so far matches; older ones may. " : q ? "No name matches. " : "No names yet. ", q || cursor ? h("a", { href: "#/names" }, "Show all") : null),
      ),
      pager("#/names", cursor, page.next, { q }),
    ),
    writes ? tokenCard() : null,
    writes
      ? card(
          "Register a name",
          actForm(
            "register",
            "Register",
            field("Name", h("input", { name: "name", required: true, maxlength: "255", spellcheck: "false", autocapitalize: "none", placeholder: "www" }), `below ${zone.zone}`),
            field("Records, one a line", h("textarea", { name: "records", rows: "4", spellcheck: "false", placeholder: LINES }), "[TTL] [TYPE] DATA; an address alone is AAAA, 60 s"),
            field("Days until it ends", h("input", { name: "days", inputmode: "numeric", pattern: "[0-9]{1,3}", required: true, value: "366" })),
          ),
        )
      : null,
    card(
      "Signing keys of the zone",
      table("Keys", ["Node", ["Tag", "num"], "DS"], zone.keys.map((k) => ({ key: k.node, cells: [link.node(k.node, k.name), String(k.tag), h("code", {}, k.ds)] })), "No node that serves the zone has put a key on the ledger."),
    ),
  );
}

// ---- one name -----------------------------------------------------------------------------------

function changes(n: Name): Child[] {
  if (!writes) return [readsOnly()];
  const me = self();
  const others = store.nodes.filter((x) => x.id !== n.owner);
  const named = h("input", { type: "hidden", name: "name", value: n.name });
  const asset = h("input", { type: "hidden", name: "asset", value: n.asset });
  return [
    me && me.id !== n.owner ? h("p", { class: "notice warn" }, `This name is ${n.owner_name}'s; ${me.name}, whose page this is, may change it only as far as its policy allows.`) : null,
    tokenCard(),
    card(
      "Change the records",
      actForm("records", "Give it these records", named, field("Records in place of those it has, one a line", h("textarea", { name: "records", rows: "6", spellcheck: "false" }, n.records.map(recordLine).join("\n")), "[TTL] [TYPE] DATA, with AAAA, TXT, NS or DS")),
    ),
    card("Renew", actForm("renew", "Renew", named.cloneNode(), field("Days from now", h("input", { name: "days", inputmode: "numeric", pattern: "[0-9]{1,3}", required: true, value: "366" })))),
    card("Transfer", h("p", { class: "dim" }, "The new owner alone can change it then."), actForm("transfer", "Transfer", asset, field("To", h("select", { name: "to" }, ...others.map((x) => h("option", { value: x.id }, x.name)))), confirm("I know that I cannot take it back."))),
    card("Retire", h("p", { class: "dim" }, "The name ends now, for good; then anybody can register it anew."), actForm("retire", "Retire this name", asset.cloneNode(), confirm("I know that this cannot be undone."))),
  ];
}

export async function name(arg: string): Promise<HTMLElement> {
  const n = await get<Name>(`/v1/names/${id(arg)}`);
  return h(
    "div",
    {},
    crumb("#/names", "Names"),
    head(foreign(n.full), nameState(n)),
    h(
      "section",
      { class: "card" },
      facts([
        ["Owner", link.node(n.owner, n.owner_name)],
        ["State", assetState(n.state)],
        ["Registered", time(n.registered_ms)],
        ["Ends", time(n.expires_ms)],
        ["Asset", h("a", { href: `#/assets/${n.asset}` }, "history and proofs")],
        ["Asset id", fullId(n.asset, "asset id")],
      ]),
    ),
    h(
      "section",
      { class: "card", id: "records" },
      h("h2", {}, plural(n.records.length, "record")),
      table("Records", ["Type", ["TTL", "num"], "Data"], n.records.map((r, i) => ({ key: `${i} ${r.type} ${r.data}`, cells: [r.type, `${r.ttl} s`, foreign(r.data)] })), "None: the DNS says that the name is there and has nothing."),
    ),
    ...changes(n).filter((c): c is Node => c instanceof Node),
  );
}

const receipt = (what: string, r: { height: number; finality_us: number }): Child => h("span", {}, `${what}, final in `, link.block(r.height), ".");
type Receipt = { height: number; finality_us: number };
const days = (form: HTMLFormElement): number => Number(valueOf(form, "days")) * DAY_S;

export const nameActs = {
  token: (form: HTMLFormElement): Promise<Child> => {
    session.token = valueOf(form, "token");
    return Promise.resolve(null);
  },
  forget: (): Promise<Child> => {
    session.token = "";
    return Promise.resolve(null);
  },
  async register(form: HTMLFormElement): Promise<Child> {
    const name = valueOf(form, "name");
    const r = await post<Receipt>("/v1/names", { name, records: parseRecords(valueOf(form, "records")), life_s: days(form) });
    return h("span", {}, "Registered ", h("a", { href: `#/names/${id(name)}` }, foreign(name)), ", final in ", link.block(r.height), ".");
  },
  async records(form: HTMLFormElement): Promise<Child> {
    return receipt("Changed", await post<Receipt>(`/v1/names/${id(valueOf(form, "name"))}/records`, { records: parseRecords(valueOf(form, "records")) }));
  },
  async renew(form: HTMLFormElement): Promise<Child> {
    return receipt("Renewed", await post<Receipt>(`/v1/names/${id(valueOf(form, "name"))}/renew`, { life_s: days(form) }));
  },
  async transfer(form: HTMLFormElement): Promise<Child> {
    return receipt("Transferred", await post<Receipt>(`/v1/assets/${id(valueOf(form, "asset"))}/transfer`, { to: valueOf(form, "to") }));
  },
  async retire(form: HTMLFormElement): Promise<Child> {
    const r = await post<Receipt>(`/v1/assets/${id(valueOf(form, "asset"))}/retire`, undefined);
    location.hash = "#/names"; // there is no such name any more
    return receipt("Retired", r);
  },
};

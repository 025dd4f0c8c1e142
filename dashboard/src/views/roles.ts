// Whose token this tab has, what it may do, and which tokens there are.
import { ApiError, session } from "../api";
import { h, type Child } from "../dom";
import { foreign, time } from "../format";
import { trust, type Actor } from "../trust/api";
import { actForm, field, valueOf } from "./form";
import { card, facts, head, pill, table } from "./parts";

const rights: [Actor["role"], string][] = [
  ["viewer", "read the audit log"],
  ["operator", "also issue and revoke certificates"],
  ["authority", "everything, such as list the tokens"],
];
const rank = (role: string): number => rights.findIndex(([r]) => r === role);

let known: Actor | null = null;
export const actor = (): Actor | null => known;

function mine(): HTMLElement {
  if (!known)
    return card(
      "Your token",
      h("p", { class: "dim" }, "Certificates and the log are public. For the rest give a token: ", h("code", {}, "trustchain-server token add NAME --role operator"), " makes one. It stays in the memory of this tab, nowhere else, until the tab is reloaded or closed."),
      actForm("token", "Use this token", field("Token", h("input", { type: "password", name: "token", required: true, spellcheck: "false", maxlength: "256", id: "token" }))),
    );
  return h(
    "section",
    { class: "card", id: "mine" },
    h("h2", {}, "Your token"),
    facts([
      ["Name", foreign(known.name)],
      ["Role", pill("good", known.role)],
      ["It may", h("ul", { class: "checks" }, ...rights.map(([r, text], i) => h("li", { class: i <= rank(known!.role) ? "good" : "bad" }, h("span", { class: "visually-hidden" }, i <= rank(known!.role) ? "Yes: " : "No: "), text, h("small", {}, r))))],
    ]),
    actForm("forget", "Forget the token"),
  );
}

async function allTokens(): Promise<Child> {
  if (known?.role !== "authority") return null;
  const now = Date.now();
  return card(
    "All tokens",
    table(
      "Tokens",
      ["Name", "Role", "State", "Made", "Ends"],
      (await trust.tokens()).map((t) => ({
        key: t.name,
        cells: [foreign(t.name), t.role, t.ends_ms && t.ends_ms <= now ? pill("idle", "ended") : pill("good", "taken"), time(t.made_ms), t.ends_ms ? time(t.ends_ms) : "never"],
      })),
      "None but api.token.",
    ),
    h("p", { class: "dim hint" }, "Beside api.token, which may do everything. Only their hashes are kept. They are made and taken back on the authority's machine: ", h("code", {}, "trustchain-server token remove NAME"), "."),
  );
}

export async function roles(): Promise<HTMLElement> {
  const asked = session.token;
  if (asked) {
    const who = await trust.whoami().catch((e: unknown) => {
      if (!(e instanceof ApiError) || e.status !== 401) throw e;
      return null; // taken back, or ended
    });
    if (session.token === asked) { // neither forgotten nor another meanwhile
      known = who;
      if (!who) session.token = "";
    }
  }
  return h("div", {}, head("Roles"), mine(), await allTokens());
}

async function use(form: HTMLFormElement): Promise<Child> {
  session.token = valueOf(form, "token");
  try {
    known = await trust.whoami();
  } catch (e) {
    session.token = "";
    throw e;
  }
  return null;
}
function forget(): Promise<Child> {
  session.token = "";
  known = null;
  return Promise.resolve(null);
}
export const roleActs = { token: use, forget };

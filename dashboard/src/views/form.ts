// Parts of forms that do something. What a form holds is the reader's: refreshing leaves it alone.
import { session } from "../api";
import { h, type Child } from "../dom";

export function field(label: string, input: HTMLElement, hint?: Child): HTMLElement {
  return h("label", { class: "field" }, h("span", {}, label), input, hint ? h("small", { class: "dim" }, hint) : null);
}
export const choice = (name: string, values: [string, string][]): HTMLElement =>
  h("select", { name }, ...values.map(([value, text]) => h("option", { value }, text)));

/** A form whose act is named; its button, and what the server said. */
export function actForm(act: string, button: string, ...children: Child[]): HTMLElement {
  return h(
    "form",
    { class: "act", "data-act": act, "data-keep": true, "data-key": `form-${act}`, autocomplete: "off" },
    ...children,
    h("p", {}, h("button", { type: "submit", class: "primary" }, button)),
    h("div", { class: "outcome", role: "status" }),
  );
}
/** What cannot be taken back needs a word more. */
export const confirm = (text: string): HTMLElement =>
  h("label", { class: "confirm" }, h("input", { type: "checkbox", name: "sure", required: true }), h("span", {}, text));

export const valueOf = (form: HTMLFormElement, name: string): string => String(new FormData(form).get(name) ?? "").trim();

/** Before a form that needs a token. */
export const needsToken = (where: string, role: string): Child =>
  session.token ? null : h("p", { class: "notice warn", id: "needs-token" }, `This needs a token${role ? ` of the role ${role}` : ""}. `, h("a", { href: where }, "Give one"), " to this page first.");

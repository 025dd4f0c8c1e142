// Building and refreshing elements without a framework: text is always text, never markup.

export type Child = Node | string | number | null | undefined | false;
export type Attrs = Record<string, string | boolean | ((e: Event) => void)>;

function fill<T extends Element>(el: T, attrs: Attrs, children: Child[]): T {
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

export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attrs: Attrs = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attrs, children);
}
export function s<K extends keyof SVGElementTagNameMap>(tag: K, attrs: Attrs = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);
}

const keyOf = (n: Node): string | null => (n instanceof Element ? n.getAttribute("data-key") : null);
const alike = (a: Node, b: Node): boolean => a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

/**
 * Makes `old` look as `fresh` does and keeps every element that can stay, and with it focus,
 * selection and scroll place. Listeners of elements that stay are the old ones, so parts that are
 * refreshed have none of their own. What is inside [data-keep] belongs to whoever put it there, and
 * whether a <details> is open belongs to the reader.
 */
export function morph(old: Node, fresh: Node): void {
  if (!alike(old, fresh)) {
    (old as ChildNode).replaceWith(fresh);
    return;
  }
  if (!(old instanceof Element) || !(fresh instanceof Element)) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.hasAttribute("data-keep")) return;
  const keyed = new Map<string, Node>();
  for (const child of old.childNodes) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  let at: ChildNode | null = old.firstChild;
  for (const want of [...fresh.childNodes]) {
    const key = keyOf(want);
    if (at && alike(at, want)) {
      const next: ChildNode | null = at.nextSibling;
      morph(at, want);
      at = next;
    } else if (key !== null && keyed.has(key)) {
      const have = keyed.get(key) as ChildNode;
      old.insertBefore(have, at);
      morph(have, want);
    } else {
      old.insertBefore(want, at);
    }
  }
  while (at) {
    const next: ChildNode | null = at.nextSibling;
    at.remove();
    at = next;
  }
}

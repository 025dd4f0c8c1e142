// How things are written: figures with units, times, ids, and text that others chose.
import { h, type Child } from "./dom";

const grouped = new Intl.NumberFormat("en-GB");
export const count = (n: number): string => grouped.format(n);
export const plural = (n: number, word: string, many = `${word}s`): string => `${count(n)} ${n === 1 ? word : many}`;

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

/** A duration of a request or a block; microseconds; 0 is "not known". */
export function duration(us: number): string {
  if (us <= 0) return "–";
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 10_000) return `${(us / 1000).toFixed(1)} ms`;
  if (us < 1_000_000) return `${Math.round(us / 1000)} ms`;
  return us < 60_000_000 ? `${(us / 1_000_000).toFixed(1)} s` : span(us / 1000);
}

/** A stretch of time for people; milliseconds. */
export function span(ms: number): string {
  const sec = Math.max(0, Math.round(ms / 1000));
  if (sec < 60) return `${sec} s`;
  if (sec < 3600) return `${Math.floor(sec / 60)} min ${sec % 60} s`;
  if (sec < 86400) return `${Math.floor(sec / 3600)} h ${Math.floor((sec % 3600) / 60)} min`;
  return `${plural(Math.floor(sec / 86400), "day")} ${Math.floor((sec % 86400) / 3600)} h`;
}

export function ago(ms: number): string {
  const passed = Date.now() - ms;
  return passed < 1500 ? "now" : `${span(passed)} ago`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

/** Local time, with the day unless it is today's; the exact moment as its title. */
export function time(ms: number): Child {
  if (!ms) return "–";
  const at = new Date(ms);
  const today = day.format(at) === day.format(new Date());
  const text = today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
  return h("time", { datetime: at.toISOString(), title: `${exact.format(at)} (${at.toISOString()})` }, text);
}

export const words = (name: string): string => name.replaceAll("_", " ");
export const title = (name: string): string => words(name).replace(/^./, (c) => c.toUpperCase());

export const short = (hex: string): string => (hex.length > 16 ? `${hex.slice(0, 8)}…${hex.slice(-4)}` : hex);

const copyButton = (text: string, what: string): HTMLElement =>
  h("button", { type: "button", class: "copy", "data-copy": text, "aria-label": `Copy ${what}`, title: `Copy ${what}` }, h("span", { class: "copy-icon" }));

/** An id in full, which may break anywhere, and a button that copies it. */
export function fullId(hex: string, what: string): HTMLElement {
  return h("span", { class: "id" }, h("code", {}, hex), copyButton(hex, what));
}
/** An id in short with a button that copies all of it; href makes it a link. */
export function shortId(hex: string, what: string, href?: string): HTMLElement {
  const text = h("code", { title: hex }, short(hex));
  return h("span", { class: "id short" }, href ? h("a", { href }, text) : text, copyButton(hex, what));
}

// Characters that show nothing, or turn the direction of what stands around them: a name could lie
// with them. They are shown by their number.
// eslint-disable-next-line no-control-regex
const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]|[\u{e0000}-\u{e01ef}]/gu;

/** Text that somebody else chose, such as a name: isolated, with nothing hidden in it. */
export function foreign(text: string): HTMLElement {
  const el = h("bdi", {});
  let at = 0;
  for (const found of text.matchAll(hidden)) {
    el.append(text.slice(at, found.index));
    el.append(h("span", { class: "hidden-char" }, `U+${found[0].codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`));
    at = found.index + found[0].length;
  }
  el.append(text.slice(at));
  return el;
}
/** The same as plain text, for titles. */
export const foreignText = (text: string): string => foreign(text).textContent ?? "";

// The page of the authority: certificates, the transparency log, who did what.
import type { ApiError } from "./api";
import { announce, changed, line, outage, start } from "./app";
import { h } from "./dom";
import { time } from "./format";
import { audit, auditActs } from "./views/audit";
import { certificate, certificateActs, certificates, issue } from "./views/certificates";
import { entry, log, logActs } from "./views/log";
import { actor, roleActs, roles } from "./views/roles";

const EVERY_MS = 1000; // the authority has no stream of events
let heard_ms = 0;
let live = false;

function paintLine(): void {
  const who = actor();
  line.className = live ? "line live" : "line";
  line.textContent = live ? `live · ${who ? `${who.name}, ${who.role}` : "no token"}` : "no connection";
  const out = !live && heard_ms > 0;
  const was = !outage.hidden;
  outage.hidden = !out;
  document.body.classList.toggle("is-out", out);
  if (out && !was) outage.replaceChildren(h("p", {}, h("strong", {}, "The authority does not answer."), " What you see is from ", time(heard_ms), ". This page tries again by itself."));
}

setInterval(() => {
  if (!document.hidden) changed("time", true);
}, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) changed("time", true);
});

start({
  name: "TrustChain",
  pages: {
    "": [{ tab: "#/", view: (_, q) => certificates(q), on: ["time"] }, null],
    certificates: [null, { tab: "#/", view: certificate, on: ["time"] }],
    issue: [{ tab: "#/issue", view: issue, on: [] }, null],
    log: [{ tab: "#/log", view: (_, q) => log(q), on: ["time"] }, { tab: "#/log", view: entry, on: ["time"] }],
    audit: [{ tab: "#/audit", view: (_, q) => audit(q), on: ["time"] }, null],
    roles: [{ tab: "#/roles", view: roles, on: ["time"] }, null],
  },
  tabs: [["#/", "Certificates"], ["#/issue", "Issue"], ["#/log", "Log"], ["#/audit", "Audit"], ["#/roles", "Roles"]],
  search: "#/",
  acts: { ...certificateActs, ...logActs, ...auditActs, ...roleActs },
  ready: () => Promise.resolve(),
  painted() {},
  looked(failed: ApiError | null) {
    const now = failed?.status !== 0;
    if (now) heard_ms = Date.now();
    if (live && !now) announce("The authority does not answer");
    live = now;
    paintLine();
  },
});

// The audit log's lines with the hashes that chain them, computed in the browser.
import { hex, sha256 } from "./bytes";

export interface AuditEntry { n: number; at_ms: number; who: string; from: string; act: string; subject: string; serial: string; detail: string; prev: string }
export interface AuditPage { head: { n: number; hash: string }; items: AuditEntry[]; next: string | null; lines: string[] }

/** The objects of "items" as the server wrote them: what is hashed is the line, not what it means. */
function rawItems(answer: string): string[] {
  const found: string[] = [];
  let [depth, from, quoted] = [0, 0, false];
  for (let i = answer.indexOf('"items":['); i >= 0 && i < answer.length; i++) {
    const c = answer[i];
    if (quoted && c === "\\") i++;
    else if (c === '"') quoted = !quoted;
    else if (!quoted && c === "{" && depth++ === 0) from = i;
    else if (!quoted && c === "}" && --depth === 0) found.push(answer.slice(from, i + 1));
    else if (!quoted && c === "]" && depth === 0) break;
  }
  return found;
}
export const readAudit = (answer: string): AuditPage => ({ ...(JSON.parse(answer) as Omit<AuditPage, "lines">), lines: rawItems(answer) });

const hashOf = async (text: string): Promise<string> => hex(await sha256(new TextEncoder().encode(text)));

/**
 * Are these lines, newest first, a chain? `above` is what the line after the newest of them says of
 * it, or the head. Gives what is wrong, or null, and what the oldest line says of the one before it.
 */
export async function checkChain(page: AuditPage, above: { n: number; hash: string }): Promise<{ wrong: string | null; below: { n: number; hash: string } }> {
  let want = above;
  for (const [i, e] of page.items.entries()) {
    const text = page.lines[i];
    if (text === undefined || e.n !== want.n) return { wrong: `Line ${want.n} is missing.`, below: want };
    if ((await hashOf(text)) !== want.hash) return { wrong: `Line ${e.n} is not the one that ${i === 0 && above === page.head ? "the head" : `line ${e.n + 1}`} names: it was changed.`, below: want };
    want = { n: e.n - 1, hash: e.prev };
  }
  if (page.next === null && (want.n !== 0 || !/^0{64}$/.test(want.hash))) return { wrong: "The first lines are missing.", below: want };
  return { wrong: null, below: want };
}

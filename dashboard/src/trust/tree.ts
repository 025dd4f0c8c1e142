// The log's Merkle tree, computed in the browser: inclusion and consistency (RFC 9162, 2.1.3.2 and
// 2.1.4.2), and the root of any size out of the log's tiles (C2SP tlog-tiles).
import { getBytes } from "../api";
import { be, concat, same, sha256, type Bytes } from "./bytes";

const HASH = 32;
const TILE = 256;

export const leafHash = (entry: Bytes): Promise<Bytes> => sha256(be(0, 1), entry);
export const nodeHash = (left: Bytes, right: Bytes): Promise<Bytes> => sha256(be(1, 1), left, right);

/** One step from the leaf towards the root. */
export interface Step { side: "left" | "right"; sibling: Bytes; result: Bytes }

const odd = (n: number): boolean => n % 2 === 1;
const half = (n: number): number => Math.floor(n / 2);
const wrongLength = (): Error => new Error("The proof has not as many hashes as a tree of this size needs.");

/** The root that the proof leads to; the caller compares it with a signed one. */
export async function inclusionRoot(leaf: Bytes, index: number, size: number, proof: Bytes[]): Promise<{ root: Bytes; steps: Step[] }> {
  if (index >= size) throw new Error("The tree has no such entry.");
  let [at, last, root] = [index, size - 1, leaf];
  const steps: Step[] = [];
  for (const sibling of proof) {
    if (last === 0) throw wrongLength();
    const left = odd(at) || at === last;
    root = left ? await nodeHash(sibling, root) : await nodeHash(root, sibling);
    steps.push({ side: left ? "left" : "right", sibling, result: root });
    if (left) while (!odd(at) && at !== 0) [at, last] = [half(at), half(last)];
    [at, last] = [half(at), half(last)];
  }
  if (last !== 0) throw wrongLength();
  return { root, steps };
}

/** Does the tree of size `to` begin with the one of size `from`? */
export async function isConsistent(from: number, fromRoot: Bytes, to: number, toRoot: Bytes, proof: Bytes[]): Promise<boolean> {
  if (from > to || from < 1) throw new Error("The first size must be from 1 to the second.");
  if (from === to) return proof.length === 0 && same(fromRoot, toRoot);
  const power = Number.isInteger(Math.log2(from));
  const path = power ? [fromRoot, ...proof] : proof;
  let [at, last] = [from - 1, to - 1];
  while (odd(at)) [at, last] = [half(at), half(last)];
  const first = path[0];
  if (!first) return false;
  let [a, b] = [first, first];
  for (const sibling of path.slice(1)) {
    if (last === 0) return false;
    if (odd(at) || at === last) {
      [a, b] = [await nodeHash(sibling, a), await nodeHash(sibling, b)];
      while (!odd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else b = await nodeHash(b, sibling);
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && same(a, fromRoot) && same(b, toRoot);
}

/** The address of a tile, the first `width` of it. */
export function tilePath(level: number | "data", index: number, width: number): string {
  const parts: string[] = [];
  for (let n = index; ; n = Math.floor(n / 1000)) {
    parts.unshift((parts.length ? "x" : "") + String(n % 1000).padStart(3, "0"));
    if (n < 1000) break;
  }
  return `/log/tile/${level}/${parts.join("/")}${width < TILE ? `.p/${width}` : ""}`;
}

/** Perfect trees of these hashes, the largest first, as the binary digits of their number say. */
async function perfect(hashes: Bytes[]): Promise<Bytes[]> {
  const found: Bytes[] = [];
  let at = 0;
  for (let width = TILE / 2; width >= 1; width /= 2) {
    if (!(hashes.length & width)) continue;
    let row = hashes.slice(at, at + width);
    at += width;
    while (row.length > 1) row = await Promise.all(Array.from({ length: row.length / 2 }, (_, i) => nodeHash(row[2 * i]!, row[2 * i + 1]!)));
    found.push(row[0]!);
  }
  return found;
}

/** The root of the tree of the first `size` entries, out of at most five tiles. */
export async function rootAt(size: number): Promise<Bytes> {
  if (size === 0) return sha256();
  const trees: Bytes[] = [];
  for (let level = 5; level >= 0; level--) {
    const count = Math.floor(size / TILE ** level);
    const width = count % TILE;
    if (width === 0) continue;
    const tile = await getBytes(tilePath(level, Math.floor(count / TILE), width), "default");
    if (tile.length !== width * HASH) throw new Error("A tile of the log is too short.");
    trees.push(...(await perfect(Array.from({ length: width }, (_, i) => tile.slice(i * HASH, (i + 1) * HASH)))));
  }
  let root = trees.pop()!;
  while (trees.length) root = await nodeHash(trees.pop()!, root);
  return root;
}

export const TILE_WIDTH = TILE;
export const leafOf = (timestamped: Bytes): Promise<Bytes> => leafHash(concat(be(0, 2), timestamped)); // RFC 6962, 3.4: v1, timestamped_entry

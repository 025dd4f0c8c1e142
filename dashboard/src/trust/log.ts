// The transparency log as a reader that trusts nobody sees it: signed checkpoints (C2SP
// static-ct-api, signed-note), entries, and whether a certificate stands in it.
import { getBytes } from "../api";
import { trust } from "./api";
import { base64, be, concat, Reader, same, sha256, unbase64, unhex, unpem, type Bytes } from "./bytes";
import { inclusionRoot, isConsistent, leafOf, TILE_WIDTH, tilePath, type Step } from "./tree";
import { parseTbs, read, sctOf, tbsOf, tbsWithoutSct, type Certificate, type Sct } from "./x509";

// ---- checkpoints --------------------------------------------------------------------------------

export interface Checkpoint { origin: string; size: number; root: Bytes; timeMs: number; note: string }

const P256: EcKeyImportParams = { name: "ECDSA", namedCurve: "P-256" };
let logKey: Promise<{ spki: Bytes; id: Bytes; key: CryptoKey }> | null = null;

/** Asked for once: another key later would be another log. */
function key(): NonNullable<typeof logKey> {
  logKey ??= (async () => {
    const spki = unpem(await trust.logKey());
    return { spki, id: await sha256(spki), key: await crypto.subtle.importKey("spki", spki, P256, false, ["verify"]) };
  })();
  logKey.catch(() => (logKey = null));
  return logKey;
}
export const logId = async (): Promise<Bytes> => (await key()).id;

/** ECDSA's two numbers out of DER, as WebCrypto wants them: each of 32 bytes. */
function rawSignature(der: Bytes): Bytes {
  const numbers = read(read(der)[0]?.body ?? new Uint8Array());
  if (numbers.length !== 2) throw new Error("The checkpoint's signature cannot be read.");
  return concat(
    ...numbers.map(({ body }) => {
      const digits = body[0] === 0 ? body.slice(1) : body;
      if (digits.length > 32) throw new Error("The checkpoint's signature cannot be read.");
      return concat(new Uint8Array(32 - digits.length), digits);
    }),
  );
}

/** A checkpoint whose signature by the log's key holds; anything else is an error. */
export async function openCheckpoint(note: string): Promise<Checkpoint> {
  const { id, key: k } = await key();
  const [origin = "", sizeText = "", rootText = "", empty, ...signatures] = note.split("\n");
  const size = Number(sizeText);
  const root = unbase64(rootText);
  if (empty !== "" || !/^(0|[1-9]\d*)$/.test(sizeText) || !Number.isSafeInteger(size) || root.length !== 32) throw new Error("The checkpoint cannot be read.");
  const keyId = (await sha256(new TextEncoder().encode(`${origin}\n`), be(5, 1), id)).slice(0, 4);
  for (const text of signatures) {
    if (!text.startsWith(`\u2014 ${origin} `)) continue; // a witness's
    const r = new Reader(unbase64(text.slice(origin.length + 3)));
    if (!same(r.take(4), keyId)) continue;
    const timeMs = r.uint(8);
    r.take(2); // SHA-256 with ECDSA
    const covered = concat(be(0, 1), be(1, 1), be(timeMs, 8), be(size, 8), root); // RFC 6962, 3.5
    if (await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, k, rawSignature(r.vector(2)), covered)) return { origin, size, root, timeMs, note };
  }
  throw new Error("The checkpoint's signature does not hold: do not believe this log.");
}

/** The newest checkpoint, and whether it continues the first that this tab saw. */
export interface Watch { now: Checkpoint; first: Checkpoint; continues: boolean }
let watched: Watch | null = null;
let watching: Promise<Watch> | null = null;

/** One at a time: an answer that was overtaken would look like a log that was cut back. */
export function watch(): Promise<Watch> {
  watching ??= lookOnce().finally(() => (watching = null));
  return watching;
}
async function lookOnce(): Promise<Watch> {
  const now = await openCheckpoint(await trust.checkpoint());
  const first = watched?.first ?? now;
  let continues = watched?.continues ?? true;
  if (watched && now.note !== watched.now.note)
    continues &&= now.size >= watched.now.size && (watched.now.size === 0 || (await provenConsistent(watched.now.size, watched.now.root, now.size, now.root)));
  return (watched = { now, first, continues });
}

export async function provenConsistent(from: number, fromRoot: Bytes, to: number, toRoot: Bytes): Promise<boolean> {
  const { hashes } = await trust.consistency(from, to);
  return isConsistent(from, fromRoot, to, toRoot, hashes.map(unhex));
}

// ---- is a certificate in the log? ---------------------------------------------------------------

/** A checkpoint is signed at most once a second, and the entry is newer. */
export class NotYet extends Error {}

export interface Inclusion { sct: Sct; leaf: Bytes; size: number; root: Bytes; steps: Step[]; computed: Bytes; good: boolean }

const entryOf = (timeMs: number, issuerKeyHash: Bytes, tbs: Bytes, extensions: Bytes): Bytes =>
  concat(be(timeMs, 8), be(1, 2), issuerKeyHash, be(tbs.length, 3), tbs, be(extensions.length, 2), extensions); // RFC 6962, 3.4: precert_entry

/** Makes the entry out of the certificate itself and its issuing CA's, and follows the proof up to a signed root. */
export async function inclusionOf(certificate: Bytes, parsed: Certificate, issuing: Bytes): Promise<Inclusion | null> {
  const sct = sctOf(parsed);
  if (!sct) return null;
  if (!same(sct.logId, await logId())) throw new Error("The timestamp in the certificate is of another log.");
  const issuer = parseTbs(tbsOf(issuing));
  const leaf = await leafOf(entryOf(sct.timeMs, await sha256(issuer.spki), tbsWithoutSct(tbsOf(certificate)), sct.extensions));
  const { now } = await watch();
  if (sct.index >= now.size) throw new NotYet("The newest checkpoint does not reach this entry yet; the next one will.");
  const { hashes } = await trust.inclusion(sct.index, now.size);
  const { root, steps } = await inclusionRoot(leaf, sct.index, now.size, hashes.map(unhex));
  return { sct, leaf, size: now.size, root: now.root, steps, computed: root, good: same(root, now.root) };
}

// ---- entries ------------------------------------------------------------------------------------

export interface Entry { index: number; timeMs: number; precert: boolean; certificate: Certificate; serial: string; leaf: Bytes; bytes: number }

async function readEntry(r: Reader, index: number): Promise<Entry> {
  const timeMs = r.uint(8);
  const type = r.uint(2);
  if (type > 1) throw new Error(`Entry ${index} is of a kind that this page does not know.`);
  const issuerKeyHash = type === 1 ? r.take(32) : new Uint8Array();
  const data = r.vector(3);
  const extensions = r.vector(2);
  const leaf = await leafOf(concat(be(timeMs, 8), be(type, 2), issuerKeyHash, be(data.length, 3), data, be(extensions.length, 2), extensions));
  if (type === 1) r.vector(3); // the precertificate as it was signed
  r.vector(2); // the chain's fingerprints
  const certificate = parseTbs(type === 1 ? data : tbsOf(data));
  return { index, timeMs, precert: type === 1, certificate, serial: certificate.serial.replace(/^00(?=.{32}$)/, ""), leaf, bytes: data.length };
}

/** Entries of one tile, [from, to), each with its leaf's hash as the entry's bytes give it. */
export async function entries(from: number, to: number, size: number): Promise<Entry[]> {
  const tile = Math.floor(from / TILE_WIDTH);
  const width = Math.min(TILE_WIDTH, size - tile * TILE_WIDTH);
  const r = new Reader(await getBytes(tilePath("data", tile, width), "default"));
  const found: Entry[] = [];
  for (let i = tile * TILE_WIDTH; i < Math.min(to, size); i++) {
    const e = await readEntry(r, i);
    if (i >= from) found.push(e);
  }
  return found;
}

/** Does the entry's hash stand in the tree that the checkpoint signs? */
export async function entryIncluded(e: Entry, now: Checkpoint): Promise<{ steps: Step[]; computed: Bytes; good: boolean }> {
  const { hashes } = await trust.inclusion(e.index, now.size);
  const { root, steps } = await inclusionRoot(e.leaf, e.index, now.size, hashes.map(unhex));
  return { steps, computed: root, good: same(root, now.root) };
}

/** A root as people note it: base64 of a checkpoint, or hexadecimal. */
export const rootOfText = (text: string): Bytes => {
  const root = /^[0-9a-f]{64}$/i.test(text) ? unhex(text) : unbase64(text);
  if (root.length !== 32) throw new Error("A root has 32 bytes: 44 characters of base64, or 64 of hexadecimal.");
  return root;
};
export const rootText = (root: Bytes): string => base64(root);

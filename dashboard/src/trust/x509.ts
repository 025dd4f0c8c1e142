// Certificates as DER (RFC 5280): what a page shows of one, and what the log's entry says of it.
import { be, concat, hex, Reader, type Bytes } from "./bytes";

export interface Tlv {
  tag: number;
  body: Bytes;
  /** With tag and length. */
  whole: Bytes;
}

export function read(of: Bytes): Tlv[] {
  const all: Tlv[] = [];
  for (let at = 0; at < of.length; ) {
    const r = new Reader(of.subarray(at));
    const from = r.left;
    const tag = r.uint(1);
    const first = r.uint(1);
    if ((tag & 31) === 31 || first === 0x80 || first > 0x84) throw new Error("The DER cannot be read.");
    const body = r.take(first < 0x80 ? first : r.uint(first - 0x80));
    all.push({ tag, body, whole: of.slice(at, at + from - r.left) });
    at += from - r.left;
  }
  return all;
}
const one = (of: Bytes): Tlv => {
  const [first] = read(of);
  if (!first) throw new Error("The DER cannot be read.");
  return first;
};

function wrap(tag: number, ...parts: Bytes[]): Bytes {
  const body = concat(...parts);
  let bytes = 0;
  while (body.length >= 256 ** bytes) bytes++;
  const length = body.length < 0x80 ? be(body.length, 1) : concat(be(0x80 + bytes, 1), be(body.length, bytes));
  return concat(be(tag, 1), length, body);
}

export function oid(body: Bytes): string {
  const arcs: number[] = [];
  let n = 0;
  for (const x of body) {
    n = n * 128 + (x & 127);
    if (x < 128) {
      if (arcs.length === 0) arcs.push(Math.min(2, Math.floor(n / 40)), n - 40 * Math.min(2, Math.floor(n / 40)));
      else arcs.push(n);
      n = 0;
    }
  }
  return arcs.join(".");
}

/** Names of what the authority issues with; others are shown by their number. */
const known: Record<string, string> = {
  "1.3.9999.3.14": "FALCON-1024", "1.2.840.10045.2.1": "elliptic curve", "1.2.840.10045.3.1.7": "P-256", "1.3.132.0.34": "P-384", "1.3.132.0.35": "P-521",
  "1.2.840.10045.4.3.2": "ECDSA with SHA-256", "1.2.840.10045.4.3.3": "ECDSA with SHA-384", "1.2.840.10045.4.3.4": "ECDSA with SHA-512",
  "1.2.840.113549.1.1.1": "RSA", "1.3.101.112": "Ed25519", "2.5.4.3": "CN", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C",
  "2.5.29.14": "subject key identifier", "2.5.29.15": "key usage", "2.5.29.17": "subject alternative name", "2.5.29.19": "basic constraints",
  "2.5.29.30": "name constraints", "2.5.29.31": "CRL distribution points", "2.5.29.32": "certificate policies", "2.5.29.35": "authority key identifier",
  "2.5.29.37": "extended key usage", "1.3.6.1.5.5.7.1.1": "authority information access", "1.3.6.1.5.5.7.1.24": "TLS feature",
  "1.3.6.1.5.5.7.3.1": "TLS server", "1.3.6.1.5.5.7.3.2": "TLS client", "1.3.6.1.5.5.7.3.9": "OCSP signing",
  "1.3.6.1.4.1.11129.2.4.2": "signed certificate timestamps", "1.3.6.1.4.1.11129.2.4.3": "precertificate poison",
};
export const oidText = (o: string): string => known[o] ?? o;

const utf8 = new TextDecoder();
const keyUses = ["digital signature", "non-repudiation", "key encipherment", "data encipherment", "key agreement", "certificate signing", "CRL signing", "encipher only", "decipher only"];

function distinguished(name: Bytes): string {
  return read(name)
    .flatMap((set) => read(set.body))
    .map((attribute) => {
      const [type, value] = read(attribute.body);
      return `${oidText(oid(type!.body))}=${utf8.decode(value!.body)}`;
    })
    .join(", ");
}

function timeMs(t: Tlv): number {
  const digits = utf8.decode(t.body);
  // RFC 5280, 4.1.2.5: two digits of a year below 50 are of this century.
  const full = t.tag === 0x17 ? (Number(digits.slice(0, 2)) < 50 ? "20" : "19") + digits : digits;
  const m = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full);
  if (!m) throw new Error("A time in the certificate cannot be read.");
  const [y, mo, d, h, mi, s] = m.slice(1).map(Number) as [number, number, number, number, number, number];
  return Date.UTC(y, mo - 1, d, h, mi, s);
}

function ipv6(b: Bytes): string {
  const groups = Array.from({ length: 8 }, (_, i) => ((b[2 * i]! << 8) | b[2 * i + 1]!).toString(16));
  return groups.join(":").replace(/(^|:)0(:0)+(:|$)/, "::");
}
function generalName(t: Tlv): string {
  if (t.tag === 0x87) return t.body.length === 16 ? ipv6(t.body) : [...t.body].join(".");
  if (t.tag === 0xa4) return distinguished(one(t.body).body);
  return utf8.decode(t.body);
}

export interface Extension { oid: string; critical: boolean; value: Bytes; whole: Bytes }
export interface Sct { version: number; logId: Bytes; timeMs: number; extensions: Bytes; index: number }
export interface Certificate {
  serial: string; signature: string; issuer: string; issuerDer: Bytes; subject: string; notBeforeMs: number; notAfterMs: number; key: string; spki: Bytes;
  names: string[]; keyUse: string[]; extendedUse: string[]; ca: boolean; extensions: Extension[];
}

function keyText(spki: Tlv): string {
  const [algorithm, bits] = read(spki.body);
  const [type, parameters] = read(algorithm!.body);
  const name = oidText(oid(type!.body));
  const curve = parameters?.tag === 6 ? ` ${oidText(oid(parameters.body))}` : "";
  return `${name}${curve}, ${bits!.body.length - 1} bytes`;
}

const extensionsOf = (tbs: Tlv[]): Extension[] => {
  const box = tbs.find((t) => t.tag === 0xa3);
  if (!box) return [];
  return read(one(box.body).body).map(({ body, whole }) => {
    const parts = read(body);
    return { oid: oid(parts[0]!.body), critical: parts.length === 3 && parts[1]!.body[0] !== 0, value: parts.at(-1)!.body, whole };
  });
};

/** The TBSCertificate of a certificate or of a log's precertificate entry. */
export function parseTbs(tbs: Bytes): Certificate {
  const parts = read(one(tbs).body);
  const at = parts[0]?.tag === 0xa0 ? 1 : 0; // the version, absent in version 1
  const [serial, signature, issuer, validity, subject, spki] = parts.slice(at);
  if (!spki) throw new Error("The certificate cannot be read.");
  const [from, to] = read(validity!.body);
  const extensions = extensionsOf(parts);
  const value = (o: string): Bytes | undefined => extensions.find((e) => e.oid === o)?.value;
  const names = value("2.5.29.17");
  const use = value("2.5.29.15");
  const extended = value("2.5.29.37");
  const basic = value("2.5.29.19");
  const bits = use ? one(use).body : new Uint8Array();
  return {
    serial: hex(serial!.body), signature: oidText(oid(one(signature!.body).body)), issuer: distinguished(issuer!.body), issuerDer: issuer!.whole,
    subject: distinguished(subject!.body), notBeforeMs: timeMs(from!), notAfterMs: timeMs(to!), key: keyText(spki), spki: spki.whole,
    names: names ? read(one(names).body).map(generalName) : [],
    keyUse: keyUses.filter((_, i) => ((bits[1 + (i >> 3)] ?? 0) >> (7 - (i & 7))) & 1),
    extendedUse: extended ? read(one(extended).body).map((t) => oidText(oid(t.body))) : [],
    ca: basic ? read(one(basic).body).some((t) => t.tag === 1 && t.body[0] !== 0) : false,
    extensions,
  };
}
export const tbsOf = (certificate: Bytes): Bytes => one(one(certificate).body).whole;

const SCT_LIST = "1.3.6.1.4.1.11129.2.4.2"; // RFC 6962, 3.3

/** The first timestamp that says where in the log the entry stands (C2SP static-ct-api: leaf_index). */
export function sctOf(c: Certificate): Sct | null {
  const ext = c.extensions.find((e) => e.oid === SCT_LIST);
  if (!ext) return null;
  const list = new Reader(new Reader(one(ext.value).body).vector(2));
  while (list.left > 0) {
    const r = new Reader(list.vector(2));
    const version = r.uint(1);
    const [logId, timeMs, extensions] = [r.take(32), r.uint(8), r.vector(2)];
    for (const e = new Reader(extensions); e.left > 0; ) {
      const type = e.uint(1);
      const data = e.vector(2);
      if (type === 0 && data.length === 5) return { version, logId, timeMs, extensions, index: new Reader(data).uint(5) };
    }
  }
  return null;
}

/** What the log holds: the same without the timestamps that came after. */
export function tbsWithoutSct(tbs: Bytes): Bytes {
  const parts = read(one(tbs).body);
  const kept = extensionsOf(parts).filter((e) => e.oid !== SCT_LIST).map((e) => e.whole);
  return wrap(0x30, ...parts.filter((p) => p.tag !== 0xa3).map((p) => p.whole), ...(kept.length ? [wrap(0xa3, wrap(0x30, ...kept))] : []));
}

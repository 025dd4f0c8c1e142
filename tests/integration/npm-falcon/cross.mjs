// Cross-checks falcon.so with two FALCON-1024 implementations that are not ours: each one's keys and
// signatures are taken to the other side, and what is damaged is refused on both.
// Usage: node cross.mjs MODULE_FOLDER
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { falcon1024 } from "@noble/post-quantum/falcon.js";
import { createFalcon1024 } from "@oqs/liboqs-js";

const [module] = process.argv.slice(2);
const dir = mkdtempSync(join(tmpdir(), "hm-falcon-"));
const file = (name) => join(dir, name);
const openssl = (command, ...args) =>
  execFileSync("openssl", [command, "-provider-path", module, "-provider", "falcon", "-provider", "default", ...args],
    { stdio: ["ignore", "pipe", "pipe"] });

let checks = 0;
const check = (what, ok) => {
  checks++;
  if (!ok) throw new Error(`FAILED: ${what}`);
};

const PUBLIC = 1793, PRIVATE = 2305;
// DER heads: everything before the raw keys is fixed.
openssl("genpkey", "-algorithm", "falcon1024", "-out", file("k.pem"));
openssl("pkey", "-in", file("k.pem"), "-outform", "DER", "-out", file("k.der"));
openssl("pkey", "-in", file("k.pem"), "-pubout", "-outform", "DER", "-out", file("p.der"));
const pkcs8 = readFileSync(file("k.der")), spki = readFileSync(file("p.der"));
const spkiHead = spki.subarray(0, spki.length - PUBLIC), pkcs8Head = pkcs8.subarray(0, pkcs8.length - PUBLIC - PRIVATE);
const ours = {
  pub: new Uint8Array(spki.subarray(spkiHead.length)),
  priv: new Uint8Array(pkcs8.subarray(pkcs8Head.length, pkcs8Head.length + PRIVATE)),
};

const signOurs = (priv, pub, msg) => {
  writeFileSync(file("s.der"), Buffer.concat([pkcs8Head, priv, pub]));
  writeFileSync(file("msg"), msg);
  openssl("pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", file("s.der"), "-in", file("msg"), "-out", file("sig"));
  return new Uint8Array(readFileSync(file("sig")));
};
const verifyOurs = (pub, msg, sig) => {
  writeFileSync(file("v.der"), Buffer.concat([spkiHead, pub]));
  writeFileSync(file("msg"), msg);
  writeFileSync(file("sig"), sig);
  try {
    openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", file("v.der"), "-in", file("msg"), "-sigfile", file("sig"));
    return true;
  } catch (e) {
    return false;
  }
};

const oqs = await createFalcon1024();
const safely = (f) => {
  try {
    return f() === true;
  } catch {
    return false;
  }
};
const others = [
  {
    name: "@noble/post-quantum",
    keygen: () => { const k = falcon1024.keygen(); return { pub: k.publicKey, priv: k.secretKey }; },
    sign: (priv, msg) => falcon1024.sign(msg, priv),
    verify: (pub, msg, sig) => safely(() => falcon1024.verify(sig, msg, pub)),
  },
  {
    name: "@oqs/liboqs-js",
    keygen: () => { const k = oqs.generateKeyPair(); return { pub: k.publicKey, priv: k.secretKey }; },
    sign: (priv, msg) => oqs.sign(msg, priv),
    verify: (pub, msg, sig) => safely(() => oqs.verify(msg, sig, pub)),
  },
];

const flip = (bytes, at) => bytes.map((b, i) => (i === at ? b ^ 1 : b));
try {
  for (const other of others) {
    for (let round = 0; round < 4; round++) {
      const msg = new Uint8Array(1 + 97 * round).fill(round + 1);
      const mine = signOurs(ours.priv, ours.pub, msg);
      check(`${other.name} accepts our signature`, other.verify(ours.pub, msg, mine));
      check(`${other.name} refuses it over other bytes`, !other.verify(ours.pub, flip(msg, 0), mine));
      check(`${other.name} refuses it damaged`, !other.verify(ours.pub, msg, flip(mine, 60 + round)));
      check(`${other.name} refuses it cut`, !other.verify(ours.pub, msg, mine.subarray(0, mine.length - 1)));

      const key = other.keygen();
      check("sizes", key.pub.length === PUBLIC && key.priv.length === PRIVATE);
      const theirs = other.sign(key.priv, msg);
      check(`we accept a signature of ${other.name}`, verifyOurs(key.pub, msg, theirs));
      check("we refuse it over other bytes", !verifyOurs(key.pub, flip(msg, 0), theirs));
      check("we refuse it damaged", !verifyOurs(key.pub, msg, flip(theirs, 60 + round)));
      check("we refuse it cut", !verifyOurs(key.pub, msg, theirs.subarray(0, theirs.length - 1)));
      check("we refuse it under another key", !verifyOurs(ours.pub, msg, theirs));

      check(`we sign with a key of ${other.name}`, other.verify(key.pub, msg, signOurs(key.priv, key.pub, msg)));
      check(`${other.name} signs with our key`, verifyOurs(ours.pub, msg, other.sign(ours.priv, msg)));
    }
  }
  console.log(`${checks} cross-checks passed`);
} finally {
  rmSync(dir, { recursive: true });
}

// Bytes: SHA-256 by the browser, hexadecimal, base64, numbers in network order.

export type Bytes = Uint8Array<ArrayBuffer>;

export const sha256 = async (...parts: Uint8Array[]): Promise<Bytes> => new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));

export function concat(...parts: Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}
export const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((x, i) => x === b[i]);
export const hex = (b: Uint8Array): string => Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
export function unhex(text: string): Bytes {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new Error("This is no hexadecimal.");
  return Uint8Array.from(text.match(/../g) ?? [], (x) => parseInt(x, 16));
}
export const base64 = (b: Uint8Array): string => btoa(String.fromCharCode(...b));
export function unbase64(text: string): Bytes {
  try {
    return Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  } catch {
    throw new Error("This is no base64.");
  }
}
/** The first block of PEM. */
export function unpem(text: string): Bytes {
  const body = /-----BEGIN [A-Z0-9 ]+-----([A-Za-z0-9+/=\s]+)-----END/.exec(text)?.[1];
  if (!body) throw new Error("This is no PEM.");
  return unbase64(body.replace(/\s/g, ""));
}

/** n in so many bytes; exact up to 2^53. */
export function be(n: number, bytes: number): Bytes {
  const out = new Uint8Array(bytes);
  for (let i = bytes - 1; i >= 0; i--) {
    out[i] = n % 256;
    n = Math.floor(n / 256);
  }
  return out;
}

/** Reads from the front; what is not there is an error. */
export class Reader {
  private at = 0;
  constructor(private readonly of: Bytes) {}
  get left(): number {
    return this.of.length - this.at;
  }
  take(n: number): Bytes {
    if (n > this.left) throw new Error("The data end too early.");
    this.at += n;
    return this.of.slice(this.at - n, this.at);
  }
  uint(bytes: number): number {
    const n = this.take(bytes).reduce((sum, x) => sum * 256 + x, 0);
    if (!Number.isSafeInteger(n)) throw new Error("A number is too large.");
    return n;
  }
  /** Bytes with their length in front. */
  vector(lengthBytes: number): Bytes {
    return this.take(this.uint(lengthBytes));
  }
}

#!/usr/bin/env python3
"""Every fault that docs/acme.md has a row for, against a running server: ask for it, look at the type and
the status of the problem. Signs with python3-cryptography; answers challenges itself.
Arguments: URL, edge root, an IPv6 address that is ours and not the server's."""
import base64, hashlib, http.client, http.server, json, os, socket, ssl, subprocess, sys, tempfile
import threading, time, urllib.parse
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.x509.oid import NameOID

URL, ROOT, OURS = sys.argv[1:4]
HOST = urllib.parse.urlsplit(URL).netloc
TLS = ssl.create_default_context(cafile=ROOT)
checked = 0


def b64(data):
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(n, size=None):
    return b64(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))


class Key:
    def __init__(self, kind="ES256"):
        self.alg = kind
        if kind == "RS256":
            self.key = rsa.generate_private_key(65537, 2048)
        elif kind == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            self.key = ec.generate_private_key(ec.SECP256R1() if kind == "ES256" else ec.SECP384R1())

    def jwk(self):
        public = self.key.public_key()
        if self.alg == "RS256":
            n = public.public_numbers()
            return {"e": number(n.e), "kty": "RSA", "n": number(n.n)}
        if self.alg == "EdDSA":
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return {"crv": "Ed25519", "kty": "OKP", "x": b64(raw)}
        n, size = public.public_numbers(), 32 if self.alg == "ES256" else 48
        return {"crv": "P-256" if size == 32 else "P-384", "kty": "EC", "x": number(n.x, size),
                "y": number(n.y, size)}

    def thumbprint(self):
        text = json.dumps(self.jwk(), separators=(",", ":"), sort_keys=True)
        return b64(hashlib.sha256(text.encode()).digest())

    def sign(self, data):
        if self.alg == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if self.alg == "EdDSA":
            return self.key.sign(data)
        size = 32 if self.alg == "ES256" else 48
        der = self.key.sign(data, ec.ECDSA(hashes.SHA256() if size == 32 else hashes.SHA384()))
        r, s = utils.decode_dss_signature(der)
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


conn = http.client.HTTPSConnection(HOST, context=TLS, timeout=60)


def request(method, path, body=None, headers={}):
    try:
        conn.request(method, path, body, headers)
        r = conn.getresponse()
    except (ConnectionError, ssl.SSLError):  # the server ends a connection that rests for long
        conn.close()
        if method == "POST":
            raise
        conn.request(method, path, body, headers)
        r = conn.getresponse()
    data = r.read()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, data


def nonce():
    return request("HEAD", "/acme/new-nonce")[1]["replay-nonce"]


def jws(key, header, payload, sign=None):
    protected = b64(json.dumps(header))
    body = "" if payload is None else b64(payload if isinstance(payload, (bytes, str)) else
                                          json.dumps(payload))
    return {"protected": protected, "payload": body,
            "signature": b64((sign or key.sign)((protected + "." + body).encode()))}


class Client:
    def __init__(self, key=None):
        self.key, self.kid = key or Key(), None

    def post(self, path, payload=None, change={}, drop=(), outer=None, headers={}, url=None,
             raw=None, by_key=None):
        path = path[len(URL):] if path.startswith(URL) else path
        header = {"alg": self.key.alg, "nonce": nonce(), "url": url or URL + path}
        header.update({"jwk": self.key.jwk()} if by_key or not self.kid else {"kid": self.kid})
        header.update(change)
        for name in drop:
            del header[name]
        body = jws(self.key, header, payload)
        body.update(outer or {})
        headers = {"content-type": "application/jose+json", **headers}
        status, head, data = request("POST", path, raw if raw is not None else json.dumps(body),
                                     headers)
        assert "replay-nonce" in head, (path, head)
        assert status in (200, 201) or head["content-type"] == "application/problem+json", head
        kind = head.get("content-type", "")
        return status, head, json.loads(data) if "json" in kind else data

    def register(self, **more):
        status, head, body = self.post("/acme/new-account", {"termsOfServiceAgreed": True, **more})
        assert status == 201, body
        self.kid = head["location"]
        return body

    def order(self, *names, **more):
        status, head, body = self.post("/acme/new-order", {
            "identifiers": [{"type": "dns", "value": n} for n in names], **more})
        assert status == 201, body
        return head["location"], body

    def authz(self, order):
        return self.post(order["authorizations"][0])[2]

    def wait(self, url, done=("valid", "invalid")):
        while True:
            body = self.post(url)[2]
            if body["status"] in done:
                return body
            time.sleep(0.05)

    def try_challenge(self, name, kind="http-01"):
        _, order = self.order(name)
        authz = self.authz(order)
        challenge = next(c for c in authz["challenges"] if c["type"] == kind)
        web.key_auth = challenge["token"] + "." + self.key.thumbprint()
        web.token = challenge["token"]
        status, head, body = self.post(challenge["url"], {})
        assert status == 200, body
        self.said = body["status"]
        web.asked_late.set()
        return self.wait(order["authorizations"][0]), order


def expect(what, answer, word, status):
    global checked
    got, head, body = answer
    assert got == status and body["type"] == "urn:ietf:params:acme:error:" + word, (what, got, body)
    assert body["detail"], what
    checked += 1


def failed(what, authz, word):
    global checked
    assert authz["status"] == "invalid", (what, authz)
    error = authz["challenges"][0]["error"]
    assert error["type"] == "urn:ietf:params:acme:error:" + word, (what, error)
    checked += 1


# ---- a web server that answers challenges as it is told -----------------------------------------

class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        how = web.how
        if how == "late":  # after the answer to who asked for it
            web.asked_late.wait()
        if how == "loop":
            self.send_response(302)
            self.send_header("location", self.path)
        elif how == "elsewhere":
            self.send_response(302)
            self.send_header("location", f"http://[{OURS}]:8080/x")
        elif how == "file":
            self.send_response(302)
            self.send_header("location", "file:///etc/passwd")
        elif how == "once" and "again" not in self.path:
            self.send_response(301)
            self.send_header("location", self.path + "?again")
        elif how == "404":
            self.send_response(404)
        else:
            text = {"wrong": "x" * 80, "long": "y" * 5000}.get(how, web.key_auth + "\n").encode()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *a):
        pass


class Server6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


web = Server6((OURS, 80), Web)
web.how, web.key_auth, web.token, web.asked_late = "good", "", "", threading.Event()
threading.Thread(target=web.serve_forever, daemon=True).start()


def csr(names, key=None, cn=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else []
    b = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        b = b.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
    return b64(b.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


# ---- signatures and headers ---------------------------------------------------------------------
a = Client()
new = "/acme/new-account"
expect("content type", a.post(new, {}, headers={"content-type": "application/json"}), "malformed", 415)
expect("no JSON", a.post(new, raw="hello"), "malformed", 400)
expect("an array", a.post(new, raw="[]"), "malformed", 400)
expect("unprotected header", a.post(new, {}, outer={"header": {}}), "malformed", 400)
expect("signatures", a.post(new, {}, outer={"signatures": []}), "malformed", 400)
expect("another member", a.post(new, {}, outer={"more": 1}), "malformed", 400)
expect("padding", a.post(new, {}, outer={"signature": "AA=="}), "malformed", 400)
expect("crit", a.post(new, {}, change={"crit": ["x"]}), "malformed", 400)
expect("no url", a.post(new, {}, drop=["url"]), "malformed", 400)
expect("another url", a.post(new, {}, url=URL + "/acme/new-order"), "unauthorized", 403)
expect("no nonce", a.post(new, {}, drop=["nonce"]), "badNonce", 400)
expect("a made-up nonce", a.post(new, {}, change={"nonce": "AAAAAAAAAAAAAAAAAAAAAA"}), "badNonce", 400)
used = nonce()
a.post(new, {"onlyReturnExisting": True}, change={"nonce": used})
expect("a used nonce", a.post(new, {}, change={"nonce": used}), "badNonce", 400)
expect("no key", a.post(new, {}, drop=["jwk"]), "malformed", 400)
expect("both", a.post(new, {}, change={"kid": URL + "/acme/account/1"}), "malformed", 400)
expect("kid for a new account", a.post(new, {}, drop=["jwk"],
                                       change={"kid": URL + "/acme/account/1"}), "malformed", 400)
expect("a damaged signature", a.post(new, {}, outer={"signature": b64(bytes(64))}), "malformed", 400)
for alg in ("HS256", "none", "ES512", "RS512", "PS256"):
    answer = a.post(new, {}, change={"alg": alg})
    expect(alg, answer, "badSignatureAlgorithm", 400)
    assert answer[2]["algorithms"] == ["ES256", "ES384", "RS256", "EdDSA"], answer
expect("another key's algorithm", a.post(new, {}, change={"alg": "RS256"}), "badSignatureAlgorithm", 400)
small = Key("RS256")
small.key = rsa.generate_private_key(65537, 1024)
expect("RSA of 1024 bits", Client(small).post(new, {}), "badPublicKey", 400)
expect("P-521", a.post(new, {}, change={"jwk": {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}}),
       "badPublicKey", 400)
expect("no point", a.post(new, {}, change={"jwk": {"kty": "EC", "crv": "P-256", "x": b64(b"1" * 32),
                                                   "y": b64(b"2" * 32)}}), "badPublicKey", 400)
expect("a private key", a.post(new, {}, change={"jwk": {**a.key.jwk(), "d": "AA"}}), "badPublicKey", 400)
expect("payload no JSON", a.post(new, "x"), "malformed", 400)

# ---- accounts -----------------------------------------------------------------------------------
expect("no such account", a.post(new, {"onlyReturnExisting": True}), "accountDoesNotExist", 400)
expect("contact by telephone", a.post(new, {"contact": ["tel:+1"]}), "unsupportedContact", 400)
for bad in ("mailto:x", "mailto:a@b,c@d", "mailto:a@b?subject=x", "mailto:@b", "mailto:" + "a" * 300 + "@b"):
    expect(bad, a.post(new, {"contact": [bad]}), "invalidContact", 400)
expect("many contacts", a.post(new, {"contact": ["mailto:a@b.test"] * 9}), "invalidContact", 400)
expect("contact no list", a.post(new, {"contact": "mailto:a@b.test"}), "malformed", 400)
binding = jws(None, {"alg": "HS256", "kid": "x" * 22, "url": URL + new}, a.key.jwk(),
              sign=lambda data: bytes(32))
expect("an unknown binding", a.post(new, {"externalAccountBinding": binding}), "unauthorized", 403)
expect("a binding for another url", a.post(new, {"externalAccountBinding": jws(
    None, {"alg": "HS256", "kid": "x" * 22, "url": URL}, a.key.jwk(), sign=lambda d: bytes(32))}),
    "malformed", 400)
for kind in ("ES384", "RS256", "EdDSA"):
    Client(Key(kind)).register()
a.register(contact=["mailto:a@example.test"])
status, head, body = a.post(new, {}, by_key=True)
assert status == 200 and head["location"] == a.kid
expect("an unknown kid", a.post("/acme/new-order", {}, change={"kid": URL + "/acme/account/999999"}),
       "accountDoesNotExist", 400)
expect("a kid that is none", a.post("/acme/new-order", {}, change={"kid": "7"}),
       "accountDoesNotExist", 400)
expect("a key where an account is needed", a.post("/acme/new-order", {}, by_key=True), "malformed", 400)
b = Client()
b.register()
expect("another's account", b.post(a.kid), "unauthorized", 403)
expect("account set to nonsense", a.post(a.kid, {"status": "x"}), "malformed", 400)

# ---- another key --------------------------------------------------------------------------------
def key_change(client, fresh, account=None, old=None, url=None, signer=None):
    inner = jws(signer or fresh, {"alg": fresh.alg, "jwk": fresh.jwk(), "url": url or URL + "/acme/key-change"},
                {"account": account or client.kid, "oldKey": old or client.key.jwk()})
    return client.post("/acme/key-change", inner)


fresh = Key("ES384")
expect("another account", key_change(a, fresh, account=b.kid), "malformed", 400)
expect("another old key", key_change(a, fresh, old=b.key.jwk()), "malformed", 400)
expect("another inner url", key_change(a, fresh, url=URL), "malformed", 400)
expect("not signed by the new key", key_change(a, Key(), signer=Key()), "malformed", 400)
expect("no inner request", a.post("/acme/key-change", {}), "malformed", 400)
answer = key_change(a, b.key)
expect("a key in use", answer, "malformed", 409)
assert answer[1]["location"] == b.kid
status, head, body = key_change(a, fresh)
assert status == 200, body
expect("the old key", a.post(a.kid), "malformed" if a.key.alg == fresh.alg else "badSignatureAlgorithm", 400)
a.key = fresh
assert a.post(a.kid)[0] == 200

# ---- orders -------------------------------------------------------------------------------------
def order_of(*ids, **more):
    return a.post("/acme/new-order", {"identifiers": [{"type": t, "value": v} for t, v in ids], **more})


expect("no names", order_of(), "malformed", 400)
expect("33 names", order_of(*[("dns", f"n{i}.example.test") for i in range(33)]), "malformed", 400)
expect("another type", order_of(("email", "a@b.test")), "unsupportedIdentifier", 400)
for bad in ("", "-a.test", "a..test", "a_b.test", "a.test.", "x" * 64 + ".test", "a b", "ü.test"):
    expect("name " + bad, order_of(("dns", bad)), "malformed", 400)
for bad in ("*.example.test", "localhost", "a.localhost", "1.2.3.4", "1.0.0.127.in-addr.arpa"):
    expect("name " + bad, order_of(("dns", bad)), "rejectedIdentifier", 400)
for bad in ("192.0.2.1", "::1", "fe80::1", "ff02::1", "::ffff:192.0.2.1"):
    expect("address " + bad, order_of(("ip", bad)), "rejectedIdentifier", 400)
for bad in ("FD48::1", "fd48:0:0:0:0:0:0:1", "fd48::1%lo", "x"):
    expect("address " + bad, order_of(("ip", bad)), "malformed", 400)
expect("notAfter", order_of(("dns", "a.example.test"), notAfter="2030-01-01T00:00:00Z"), "malformed", 400)
expect("profile", order_of(("dns", "a.example.test"), profile="x"), "malformed", 400)
expect("an order that is not there", a.post("/acme/order/999999"), "malformed", 404)
expect("an order of no number", a.post("/acme/order/abc"), "malformed", 404)
place, order = a.order("a.example.test")
expect("another's order", b.post(place), "unauthorized", 403)
expect("another's authorization", b.post(order["authorizations"][0]), "unauthorized", 403)
expect("an order is not written", a.post(place, {}), "malformed", 400)
expect("finalized too early", a.post(order["finalize"], {"csr": csr(["a.example.test"])}), "orderNotReady", 403)
expect("no certificate yet", a.post(place + "/certificate"), "malformed", 404)
authz = a.authz(order)
assert [c["type"] for c in authz["challenges"]] == ["http-01", "dns-01", "tls-alpn-01"]
expect("no such challenge", a.post(order["authorizations"][0].replace("authorization", "challenge") + "/x",
                                   {}), "malformed", 404)
expect("authorization set to nonsense", a.post(order["authorizations"][0], {"status": "valid"}), "malformed", 400)
assert a.post(order["authorizations"][0], {"status": "deactivated"})[2]["status"] == "deactivated"
assert a.post(place)[2]["status"] == "invalid"
status, _, ip = order_of(("ip", OURS))
assert status == 201
assert [c["type"] for c in a.authz(ip)["challenges"]] == ["http-01", "tls-alpn-01"]
for _ in range(110):
    last = a.order("a.example.test")[0]
status, head, page = a.post(a.kid + "/orders")
assert status == 200 and len(page["orders"]) == 100
assert 'rel="next"' in head["link"], head

# ---- validations --------------------------------------------------------------------------------
for how, word in (("404", "unauthorized"), ("wrong", "unauthorized"), ("long", "unauthorized"),
                  ("loop", "connection"), ("elsewhere", "connection"), ("file", "connection")):
    web.how = how
    failed(how, a.try_challenge("a.example.test")[0], word)
# The answer to a challenge waits for its end, but not for long.
web.how = "late"
web.asked_late.clear()
assert a.try_challenge("a.example.test")[0]["status"] == "valid" and a.said == "processing", a.said
web.how = "good"
assert any(a.try_challenge("a.example.test")[0]["status"] == a.said == "valid" for _ in range(20)), a.said
failed("nobody listens", a.try_challenge("a.example.test", "tls-alpn-01")[0], "connection")
failed("no such name", a.try_challenge("nowhere.example.test")[0], "dns")
failed("no name for the TXT record", a.try_challenge("a.example.test", "dns-01")[0], "dns")
failed("another TXT record", a.try_challenge("b.example.test", "dns-01")[0], "unauthorized")
failed("no TXT record", a.try_challenge("i.example.test", "dns-01")[0], "unauthorized")

plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
folder = tempfile.mkdtemp(dir=os.getcwd())
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", folder + "/k", "-out", folder + "/c", "-subj", "/CN=x", "-addext",
                "subjectAltName=DNS:a.example.test"], check=True, capture_output=True)
plain.load_cert_chain(folder + "/c", folder + "/k")


def tls_server(alpn, talk=True):
    s = socket.create_server((OURS, 443), family=socket.AF_INET6)
    if alpn:
        plain.set_alpn_protocols(alpn)

    def run():
        c, _ = s.accept()
        try:
            if talk:
                plain.wrap_socket(c, server_side=True).close()
            else:
                c.recv(100)
                c.sendall(b"HTTP/1.0 400 no TLS here\r\n\r\n")
        except OSError:
            pass
        c.close()
        s.close()
    t = threading.Thread(target=run, daemon=True)
    t.start()
    return t


t = tls_server(None)
failed("no acme-tls/1", a.try_challenge("a.example.test", "tls-alpn-01")[0], "unauthorized")
t.join()
t = tls_server(["acme-tls/1"])
failed("another certificate", a.try_challenge("a.example.test", "tls-alpn-01")[0], "unauthorized")
t.join()
t = tls_server(None, talk=False)
failed("no TLS", a.try_challenge("a.example.test", "tls-alpn-01")[0], "tls")
t.join()

# ---- certificates -------------------------------------------------------------------------------
web.how = "once"
authz, order = a.try_challenge("a.example.test")
assert authz["status"] == "valid", authz
finalize = order["finalize"]
expect("no csr", a.post(finalize, {}), "malformed", 400)
expect("csr no base64url", a.post(finalize, {"csr": "=="}), "malformed", 400)
expect("csr no request", a.post(finalize, {"csr": "AAAA"}), "badCSR", 400)
expect("other names", a.post(finalize, {"csr": csr(["b.example.test"])}), "badCSR", 400)
expect("more names", a.post(finalize, {"csr": csr(["a.example.test", "b.example.test"])}), "badCSR", 400)
expect("no names", a.post(finalize, {"csr": csr([])}), "badCSR", 400)
expect("another common name", a.post(finalize, {"csr": csr(["a.example.test"], cn="b.test")}), "badCSR", 400)
expect("the account's key", a.post(finalize, {"csr": csr(["a.example.test"], key=a.key.key)}), "badCSR", 400)
expect("an RSA key", a.post(finalize, {"csr": csr(["a.example.test"], key=rsa.generate_private_key(65537, 2048))}),
       "badCSR", 400)
leaf_key = ec.generate_private_key(ec.SECP256R1())
status, head, done = a.post(finalize, {"csr": csr(["a.example.test"], key=leaf_key, cn="a.example.test")})
assert status == 200 and done["status"] == "valid", done
expect("finalized twice", a.post(finalize, {"csr": csr(["a.example.test"])}), "orderNotReady", 403)
expect("another's certificate", b.post(done["certificate"]), "unauthorized", 403)
status, head, pem = a.post(done["certificate"])
assert status == 200 and head["content-type"] == "application/pem-certificate-chain"
cert = x509.load_pem_x509_certificate(pem)
der = b64(cert.public_bytes(serialization.Encoding.DER))

# ---- renewal ------------------------------------------------------------------------------------
akid = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
serial = cert.serial_number
ari = b64(akid) + "." + number(serial)
status, head, info = request("GET", "/acme/renewal-info/" + ari)
info = json.loads(info)
assert status == 200 and int(head["retry-after"]) > 0, info
assert info["suggestedWindow"]["start"] < info["suggestedWindow"]["end"] < cert.not_valid_after.isoformat()


def renewal(what):
    status, head, body = request("GET", "/acme/renewal-info/" + what)
    return status, head, json.loads(body)


expect("no certificate's name", renewal("x"), "malformed", 400)
expect("an unknown certificate", renewal(b64(akid) + "." + number(serial ^ 1)), "malformed", 404)
expect("another issuer", renewal(b64(b"x" * 20) + "." + number(serial)), "malformed", 404)
expect("replaces nonsense", order_of(("dns", "a.example.test"), replaces="x"), "malformed", 400)
expect("replaces another's", b.post("/acme/new-order", {
    "identifiers": [{"type": "dns", "value": "a.example.test"}], "replaces": ari}), "unauthorized", 403)
expect("replaces, without a name in common", order_of(("dns", "b.example.test"), replaces=ari), "malformed", 400)
successor, order = a.order("a.example.test", replaces=ari)
expect("replaced already", order_of(("dns", "a.example.test"), replaces=ari), "alreadyReplaced", 409)
a.post(order["authorizations"][0], {"status": "deactivated"}) # that order will never be
a.order("a.example.test", replaces=ari)

# ---- revocation ---------------------------------------------------------------------------------
revoke = "/acme/revoke-cert"
expect("no certificate", a.post(revoke, {}), "malformed", 400)
expect("no DER", a.post(revoke, {"certificate": "AAAA"}), "malformed", 400)
with open(ROOT, "rb") as f:
    other = b64(x509.load_pem_x509_certificate(f.read()).public_bytes(serialization.Encoding.DER))
expect("not of this authority", a.post(revoke, {"certificate": other}), "malformed", 404)
expect("another's, to revoke", b.post(revoke, {"certificate": der}), "unauthorized", 403)
expect("a stranger's key", Client().post(revoke, {"certificate": der}), "unauthorized", 403)
for bad in (2, 6, 7, 8, 10, 99):
    expect(f"reason {bad}", a.post(revoke, {"certificate": der, "reason": bad}), "badRevocationReason", 400)
expect("a reason in words", a.post(revoke, {"certificate": der, "reason": "x"}), "malformed", 400)
holder = Client()
holder.key.key = leaf_key
assert holder.post(revoke, {"certificate": der, "reason": 1})[0] == 200
expect("revoked twice", a.post(revoke, {"certificate": der}), "alreadyRevoked", 400)
info = renewal(ari)[2]["suggestedWindow"]
assert info["end"] < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1)), info

# Who has shown that all names are theirs may revoke what another account got.
authz, order = a.try_challenge("a.example.test")
status, _, done = a.post(order["finalize"], {"csr": csr(["a.example.test"])})
der = b64(x509.load_pem_x509_certificate(a.post(done["certificate"])[2]).public_bytes(serialization.Encoding.DER))
assert b.try_challenge("a.example.test")[0]["status"] == "valid"
assert b.post(revoke, {"certificate": der})[0] == 200

# ---- rates --------------------------------------------------------------------------------------
assert b.post(b.kid, {"status": "deactivated"})[2]["status"] == "deactivated"
expect("a deactivated account", b.post(b.kid), "unauthorized", 403)
expect("a deactivated account's key", b.post(new, {}, by_key=True), "unauthorized", 403)
for i in range(200):
    answer = Client().post(new, {})
    if answer[0] != 201:
        break
expect("too many accounts", answer, "rateLimited", 429)
assert 0 < int(answer[1]["retry-after"]) <= 3600
for i in range(1001):
    answer = order_of(("dns", "a.example.test"))
    if answer[0] != 201:
        break
expect("too many orders", answer, "rateLimited", 429)
assert int(answer[1]["retry-after"]) > 0
print(f"{checked} faults, each with its error")

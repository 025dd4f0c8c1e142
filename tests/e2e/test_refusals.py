#!/usr/bin/env python3
"""Who is no member is refused by a node with a line that says why and a counter: no certificate,
another root's, an expired one, a stranger's, a revoked member's, a peer without ML-KEM, another
protocol, and bytes that are no QUIC. Each comes from openssl's own QUIC client or a bare socket."""
import hashlib, os, random, re, socket, subprocess, time

from mesh import BIN, CLI, Mesh, isolate, say, wait_until

FALCON = ["-provider-path", os.path.join(BIN, "crypto"), "-provider", "falcon", "-provider",
          "default"]


class Client:
    """openssl with the FALCON provider, in a folder of its own."""

    def __init__(self, mesh):
        self.mesh, self.dir = mesh, os.path.join(mesh.dir, "client")
        self.authority = os.path.join(mesh.dir, "trustchain")
        os.mkdir(self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *args, stdin=None):
        p = subprocess.run(["openssl", args[0], *FALCON, *args[1:]], cwd=self.dir, input=stdin,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert p.returncode == 0, f"openssl {' '.join(args)}: {p.stdout.decode()}"
        return p.stdout

    def certificates(self):
        self.openssl("genpkey", "-algorithm", "falcon1024", "-out", "key")
        os.chmod(self.path("key"), 0o600)
        self.openssl("req", "-new", "-key", "key", "-subj", "/CN=stranger", "-out", "csr")
        env = dict(os.environ, HYPERMESH_AUTHORITY="https://[::1]:8443", HYPERMESH_CA=self.mesh.ca,
                   HYPERMESH_TOKEN_FILE=os.path.join(self.authority, "api.token"))
        subprocess.run([CLI, "cert", "issue", "csr", "-o", "stranger"], cwd=self.dir, env=env,
                       check=True, stdout=subprocess.DEVNULL)
        with open(self.path("stranger")) as f:
            issuing = "-----BEGIN CERT" + f.read().split("-----BEGIN CERT")[2]
        with open(self.path("issuing"), "w") as f:
            f.write(issuing)
        node = hashlib.sha256(self.openssl("pkey", "-in", "key", "-pubout", "-outform", "DER"))
        with open(self.path("ext"), "w") as f:
            f.write("extendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\n"
                    "basicConstraints=critical,CA:FALSE\nauthorityKeyIdentifier=keyid\n"
                    "subjectKeyIdentifier=hash\n"
                    f"subjectAltName=URI:hypermesh:node:{node.hexdigest()}\n")
        # Of the mesh's own issuing CA, for a time that is over.
        self.openssl("x509", "-req", "-in", "csr", "-CA", "issuing", "-CAkey",
                     os.path.join(self.authority, "authority/mesh-ca.key"), "-extfile", "ext",
                     "-not_before", "20250101000000Z", "-not_after", "20250201000000Z", "-out",
                     "expired")
        self.openssl("genpkey", "-algorithm", "falcon1024", "-out", "root.key")
        self.openssl("req", "-x509", "-key", "root.key", "-subj", "/CN=root", "-days", "30", "-out",
                     "root", "-addext", "keyUsage=critical,keyCertSign")
        self.openssl("x509", "-req", "-in", "csr", "-CA", "root", "-CAkey", "root.key", "-extfile",
                     "ext", "-days", "10", "-out", "foreign")
        for name, ca in (("expired", "issuing"), ("foreign", "root")):
            with open(self.path(name), "a") as out, open(self.path(ca)) as f:
                out.write(f.read())

    def connect(self, node, *args, alpn="stoq/1"):
        p = subprocess.run(["openssl", "s_client", *FALCON, "-quic", "-alpn", alpn, "-connect",
                            f"[::1]:{9292 + node.number}", *args], cwd=self.dir,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=120)
        return p.stdout.decode(errors="replace")


def refusals(node):
    return node.metric('hm_mesh_refused_total{what="peer"}')


def refused(node, why, attempt):
    before, lines = refusals(node), len(node.log().splitlines())
    said = attempt()
    wait_until(f"the counter counts: {why}\n{said}", 120, lambda: refusals(node) > before)
    line = wait_until(f"a line says '{why}'\n{said}", 120, lambda: next(
        (x for x in node.log().splitlines()[lines:] if why in x), None))
    say(line[25:])


def malformed(node):
    rng = random.Random(1)
    before = node.metric("hm_stoq_datagrams_dropped_total")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.connect(("::1", 9292 + node.number))

        def counted():
            for n in range(100): # a node that is slow loses what its socket has no room for
                data = bytearray(rng.randbytes(rng.randrange(1, 1500)))
                if n % 2:  # looks like the begin of an Initial packet of version 1
                    data[:6] = b"\xc3\x00\x00\x00\x01\x08"
                try:
                    s.send(data)
                except ConnectionRefusedError:
                    pass
            return node.metric("hm_stoq_datagrams_dropped_total") >= before + 1000
        wait_until("malformed datagrams are counted", 120, counted)
    assert node.alive()


def revoked(mesh):
    first, last = mesh.nodes[0], mesh.nodes[3]
    with open(os.path.join(last.dir, "node.crt")) as f:
        pem = f.read()
    serial = subprocess.run(["openssl", "x509", *FALCON, "-noout", "-serial"], input=pem,
                            capture_output=True, text=True, check=True).stdout
    env = dict(os.environ, HYPERMESH_AUTHORITY="https://[::1]:8443", HYPERMESH_CA=mesh.ca,
               HYPERMESH_TOKEN_FILE=os.path.join(mesh.dir, "trustchain/api.token"))
    lines = len(first.log().splitlines())
    before = refusals(first)
    subprocess.run([CLI, "cert", "revoke", serial.strip().split("=")[1].lower(), "--reason",
                    "keyCompromise"], env=env, check=True, stdout=subprocess.DEVNULL)
    answered = time.monotonic()

    def node_4(n):
        return [p for p in n.get("/v1/nodes")["items"] if p["name"] == last.name][0]
    wait_until("all others let node-4 go", 30,
               lambda: all(node_4(n)["state"] != "up" for n in mesh.nodes[:3]))
    say(f"{time.monotonic() - answered:.2f} s from the answer of revoke until every node refuses it")
    wait_until("it is refused again and again", 120, lambda: refusals(first) > before + 1)
    new = first.log().splitlines()[lines:]
    assert any("revoked" in line for line in new), new
    say(next(line for line in new if "revoked" in line)[25:])
    lost = wait_until("it says so too", 120, lambda: [
        l for l in last.log().splitlines() if "peer lost" in l and "revoked" in l])
    assert all(re.search(r' reason="[^"]*revoked[^"]*"$', l) for l in lost), lost
    # The other three are a quorum and go on.
    height = first.height()
    wait_until("the others go on", 120, lambda: first.height() > height + 2)
    made = first.request("POST", "/v1/assets", {"kind": "service", "name": "after"})
    wait_until("an operation is final", 120, lambda: "after" in mesh.nodes[2].assets())
    assert made["height"] > 0


def main():
    isolate()
    with Mesh() as mesh:
        node = mesh.nodes[0]
        c = Client(mesh)
        c.certificates()
        cert = ["-key", "key", "-cert_chain"]
        refused(node, "no certificate", lambda: c.connect(node))
        for name, why in (("foreign", "not signed by a trusted root"), ("expired", "expired"),
                          ("stranger", "not a member")):
            refused(node, why, lambda n=name: c.connect(node, *cert, n, "-cert", n))
        refused(node, "no TLS group in common", lambda: c.connect(node, "-groups", "X25519"))
        refused(node, "in common", lambda: c.connect(node, alpn="h3"))
        malformed(node)
        revoked(mesh)
    say("all well")


main()
